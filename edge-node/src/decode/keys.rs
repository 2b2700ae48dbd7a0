//! The keys given on the command line, and what they say about a message.

use std::fmt;

use lisp::wire::{AuthAlgorithm, AuthError, AuthScope, Authentication, Purpose, verify_scoped};
use serde::Serialize;

/// Every algorithm: a reader of captures judges by the key, not by what a site would accept.
const ALL: [AuthAlgorithm; 3] = [
    AuthAlgorithm::HmacSha1,
    AuthAlgorithm::HmacSha256_128,
    AuthAlgorithm::HmacSha256_128HkdfSha256,
];

/// What the authentication of a message is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// It fits a key that was given.
    Ok,
    /// It fits none of the keys of its Key-ID, or cannot fit any.
    Bad,
    /// No key was given for its Key-ID.
    NoKey,
    /// Messages of this type carry none.
    None,
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Bad => "bad",
            Self::NoKey => "no-key",
            Self::None => "none",
        })
    }
}

/// Secrets by Key-ID.
#[derive(Default)]
pub struct Keys(Vec<(u8, Vec<u8>)>);

impl Keys {
    /// Reads `ID:SECRET` and `ID:@FILE`.
    ///
    /// # Errors
    /// In words, without the secret.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        texts
            .iter()
            .map(|text| key(text))
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }

    /// Judges the MAC of a message; what is wrong with it goes to `problems`.
    pub fn judge(&self, message: &[u8], authentication: Option<&Authentication>, problems: &mut Vec<String>) -> Auth {
        let (Some(authentication), Some(purpose)) = (authentication, Purpose::of(message)) else {
            return Auth::None;
        };
        let Authentication {
            key_id,
            algorithm_id,
            ref mac,
        } = *authentication;
        let Some(algorithm) = AuthAlgorithm::from_id(algorithm_id) else {
            problems.push(match algorithm_id {
                0 => "Algorithm-ID 0: not authenticated at all".into(),
                other => format!("Algorithm-ID {other} is unknown"),
            });
            return Auth::Bad;
        };
        if !algorithm.accepted_mac_lens().contains(&mac.len()) {
            problems.push(format!(
                "a MAC of {} bytes is not of Algorithm-ID {algorithm_id}",
                mac.len()
            ));
            return Auth::Bad;
        }
        let mut tried = 0usize;
        for (_, secret) in self.0.iter().filter(|(id, _)| *id == key_id) {
            tried += 1;
            match verify_scoped(message, purpose, secret, &ALL, AuthScope::LastRecord) {
                Ok(AuthScope::WholePayload) => return Auth::Ok,
                Ok(AuthScope::LastRecord) => {
                    problems.push("the MAC ends at the last record: xTR-ID and Site-ID are not protected".into());
                    return Auth::Ok;
                }
                Err(AuthError::BadMac) => {}
                Err(error) => problems.push(error.to_string()),
            }
        }
        match tried {
            0 => Auth::NoKey,
            1 => {
                problems.push(format!("the MAC does not fit the key of Key-ID {key_id}"));
                Auth::Bad
            }
            several => {
                problems.push(format!("the MAC fits none of the {several} keys of Key-ID {key_id}"));
                Auth::Bad
            }
        }
    }
}

fn key(text: &str) -> Result<(u8, Vec<u8>), String> {
    let Some((id, secret)) = text.split_once(':') else {
        return Err("a key is ID:SECRET or ID:@FILE, such as 1:@/etc/weft/site-a.key".into());
    };
    let id = id
        .parse()
        .map_err(|_| format!("`{id}` is no Key-ID: write a number from 0 to 255 before the `:`"))?;
    let secret = match secret.strip_prefix('@') {
        None => secret.as_bytes().to_vec(),
        Some(path) => {
            let mut bytes = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            bytes
        }
    };
    if secret.is_empty() {
        return Err(format!("the secret of Key-ID {id} is empty"));
    }
    Ok((id, secret))
}

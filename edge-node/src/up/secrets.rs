//! Credentials, taken from where the intent says they are. Never logged, never stored, never part of a status.

use std::{collections::BTreeMap, fmt, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use zeroize::Zeroizing;

use crate::intent::{Intent, Name, SecretSource};

/// Secrets by name.
pub type Secrets = BTreeMap<Name, Credential>;

/// The bytes of a secret: shown by nothing, wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential(Zeroizing<Vec<u8>>);

impl Credential {
    /// For the types that the protocols keep secrets in, and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// Why a secret is not to be had: what is wrong, and what to do.
pub type Unavailable = (Name, String, String);

/// Longest secret in bytes.
const LIMIT: usize = 4096;

/// Reads all secrets of the intent: those that can be had, and why the others cannot.
pub fn load(intent: &Intent) -> (Secrets, Vec<Unavailable>) {
    let mut secrets = Secrets::new();
    let mut unavailable = Vec::new();
    for (name, source) in &intent.secrets {
        match read(source) {
            Ok(credential) => {
                secrets.insert(name.clone(), credential);
            }
            Err((message, help)) => unavailable.push((name.clone(), message, help)),
        }
    }
    (secrets, unavailable)
}

fn read(source: &SecretSource) -> Result<Credential, (String, String)> {
    let bytes = Zeroizing::new(match source {
        SecretSource::File(path) => file(path)?,
        SecretSource::Environment(name) => std::env::var(name).map(String::into_bytes).map_err(|_| {
            let message = format!("the environment variable {name} is not set");
            (message, "set it where `weft up` is started".to_owned())
        })?,
        SecretSource::SystemdCredential(name) => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                let message = "systemd handed no credentials over".to_owned();
                (
                    message,
                    format!("add `LoadCredential={name}:…` to the unit of `weft up`"),
                )
            })?;
            raw(&PathBuf::from(directory).join(name))?
        }
    });
    let end = bytes
        .iter()
        .rposition(|byte| *byte != b'\n' && *byte != b'\r')
        .map_or(0, |last| last + 1);
    match end {
        0 => Err((
            "the secret is empty".to_owned(),
            "write the credential into it".to_owned(),
        )),
        end if end > LIMIT => Err((
            format!("the secret is longer than {LIMIT} bytes"),
            "use a shorter one".to_owned(),
        )),
        end => Ok(Credential(Zeroizing::new(
            bytes.get(..end).unwrap_or_default().to_vec(),
        ))),
    }
}

fn file(path: &PathBuf) -> Result<Vec<u8>, (String, String)> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| {
        (
            format!("{shown} cannot be read: {error}"),
            "put the credential there, mode 0600".to_owned(),
        )
    })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let message = format!(
            "{shown} may be read by others (mode {:04o})",
            metadata.permissions().mode() & 0o7777
        );
        return Err((message, format!("run `chmod 600 {shown}`")));
    }
    raw(path)
}

fn raw(path: &PathBuf) -> Result<Vec<u8>, (String, String)> {
    let shown = path.display();
    fs::read(path).map_err(|error| (format!("{shown} cannot be read: {error}"), "check the path".to_owned()))
}

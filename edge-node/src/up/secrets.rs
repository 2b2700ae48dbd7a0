//! Credentials, taken from where the intent says they are. Never logged, never stored, never part of a status.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use crate::intent::{Intent, Name, SecretSource};

/// Secrets by name. Their bytes are wiped by the types that the protocols keep them in.
pub type Secrets = BTreeMap<Name, Vec<u8>>;

/// Why a secret is not to be had: what is wrong, and what to do.
pub type Unavailable = (Name, String, String);

/// Longest secret in bytes.
const LIMIT: usize = 4096;

/// Reads all secrets that the intent's other objects use.
///
/// # Errors
/// Those that cannot be read, all at once.
pub fn load(intent: &Intent) -> Result<Secrets, Vec<Unavailable>> {
    let mut secrets = Secrets::new();
    let mut faults = Vec::new();
    for (name, source) in &intent.secrets {
        match read(source) {
            Ok(bytes) => {
                secrets.insert(name.clone(), bytes);
            }
            Err((message, help)) => faults.push((name.clone(), message, help)),
        }
    }
    if faults.is_empty() { Ok(secrets) } else { Err(faults) }
}

fn read(source: &SecretSource) -> Result<Vec<u8>, (String, String)> {
    let bytes = match source {
        SecretSource::File(path) => file(path)?,
        SecretSource::Environment(name) => std::env::var(name).map(String::into_bytes).map_err(|_| {
            let message = format!("the environment variable {name} is not set");
            (message, "set it where `weft up` is started".to_owned())
        })?,
        SecretSource::SystemdCredential(name) => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                let message = "systemd handed no credentials over".to_owned();
                (message, format!("add `LoadCredential={name}:…` to the unit of `weft up`"))
            })?;
            raw(&PathBuf::from(directory).join(name))?
        }
    };
    let end = bytes.iter().rposition(|byte| *byte != b'\n' && *byte != b'\r').map_or(0, |last| last + 1);
    match end {
        0 => Err(("the secret is empty".to_owned(), "write the credential into it".to_owned())),
        end if end > LIMIT => Err((format!("the secret is longer than {LIMIT} bytes"), "use a shorter one".to_owned())),
        end => Ok(bytes[..end].to_vec()),
    }
}

fn file(path: &PathBuf) -> Result<Vec<u8>, (String, String)> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| {
        (format!("{shown} cannot be read: {error}"), "put the credential there, mode 0600".to_owned())
    })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let message = format!("{shown} may be read by others (mode {:04o})", metadata.permissions().mode() & 0o7777);
        return Err((message, format!("run `chmod 600 {shown}`")));
    }
    raw(path)
}

fn raw(path: &PathBuf) -> Result<Vec<u8>, (String, String)> {
    let shown = path.display();
    fs::read(path).map_err(|error| (format!("{shown} cannot be read: {error}"), "check the path".to_owned()))
}

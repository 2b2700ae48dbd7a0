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

/// Like [`load`], but what is held already stays as it is: only what is missing is read.
pub fn load_missing(intent: &Intent, held: &Secrets) -> (Secrets, Vec<Unavailable>) {
    let mut missing = Intent::default();
    let sources = intent.secrets.iter().filter(|(name, _)| !held.contains_key(*name));
    missing
        .secrets
        .extend(sources.map(|(name, source)| (name.clone(), source.clone())));
    let (mut secrets, unavailable) = load(&missing);
    let known = held.iter().filter(|(name, _)| intent.secrets.contains_key(*name));
    secrets.extend(known.map(|(name, credential)| (name.clone(), credential.clone())));
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn intent(path: &Path) -> Intent {
        let mut intent = Intent::default();
        intent.secrets.insert("key".into(), SecretSource::File(path.to_owned()));
        intent
    }

    fn written(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("site.key");
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode set");
        (directory, path)
    }

    #[test]
    fn the_trailing_newline_is_no_part_of_the_secret() {
        for bytes in [&b"s3cret"[..], b"s3cret\n", b"s3cret\r\n"] {
            let (_directory, path) = written(bytes, 0o600);
            let (secrets, unavailable) = load(&intent(&path));
            assert_eq!(unavailable, Vec::new());
            assert_eq!(secrets["key"].expose(), b"s3cret");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_remedy() {
        for mode in [0o640, 0o604, 0o644, 0o660] {
            let (_directory, path) = written(b"s3cret", mode);
            let (secrets, unavailable) = load(&intent(&path));
            assert!(secrets.is_empty());
            let [(name, message, help)] = unavailable.as_slice() else {
                panic!("{unavailable:?}")
            };
            assert_eq!(name, "key");
            assert!(message.contains(&format!("{mode:04o}")), "{message}");
            assert_eq!(*help, format!("run `chmod 600 {}`", path.display()));
        }
    }

    #[test]
    fn nothing_empty_missing_or_endless_is_a_secret() {
        let (_directory, path) = written(b"\n", 0o600);
        assert_eq!(load(&intent(&path)).1.len(), 1);
        let (_directory, path) = written(&[b'x'; LIMIT + 1], 0o600);
        assert_eq!(load(&intent(&path)).1.len(), 1);
        assert_eq!(load(&intent(Path::new("/no/such/file"))).1.len(), 1);
    }

    #[test]
    fn one_that_cannot_be_had_does_not_take_the_others_along() {
        let (_directory, path) = written(b"s3cret", 0o600);
        let mut intent = intent(&path);
        intent
            .secrets
            .insert("other".into(), SecretSource::Environment("WEFT_TEST_IS_NOT_SET".into()));
        let (secrets, unavailable) = load(&intent);
        assert_eq!((secrets.len(), unavailable.len()), (1, 1));
    }

    #[test]
    fn what_is_held_stays_and_what_is_missing_is_tried_again() {
        let (directory, path) = written(b"s3cret", 0o600);
        let mut intent = intent(&path);
        let later = directory.path().join("later.key");
        intent.secrets.insert("later".into(), SecretSource::File(later.clone()));
        let (held, _) = load(&intent);
        fs::remove_file(&path).expect("removed");
        let (held, unavailable) = load_missing(&intent, &held);
        assert_eq!((held.len(), unavailable.len()), (1, 1));
        assert_eq!(
            (held["key"].expose(), unavailable[0].0.as_str()),
            (&b"s3cret"[..], "later")
        );
        fs::write(&later, "now").expect("written");
        fs::set_permissions(&later, fs::Permissions::from_mode(0o600)).expect("mode set");
        let (held, unavailable) = load_missing(&intent, &held);
        assert_eq!((held.len(), unavailable), (2, Vec::new()));
    }

    #[test]
    fn a_credential_does_not_show_itself() {
        let (_directory, path) = written(b"s3cret", 0o400);
        let shown = format!("{:?}", load(&intent(&path)));
        assert!(!shown.contains("s3cret") && !shown.contains("115"), "{shown}");
    }
}

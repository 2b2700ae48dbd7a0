//! Files of the state directory: replaced as a whole, so that a crash leaves the old or the new one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::document::StoredIntent;

/// Replaces a file, for good once this returns. Mode 0600.
///
/// # Errors
/// Those of the file system; the file is then as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The intent that was last applied; an empty one when there is none.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn intent(state: &Path) -> io::Result<StoredIntent> {
    let file = state.join("intent.json");
    match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!(
                "{} cannot be understood: {error}; move it away to start empty",
                file.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StoredIntent::default()),
        Err(error) => Err(error),
    }
}

/// Keeps an intent.
///
/// # Errors
/// Those of the file system.
pub fn keep(state: &Path, intent: &StoredIntent) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(intent).map_err(io::Error::other)?;
    replace(&state.join("intent.json"), &bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("nonce");
        replace(&path, b"1").expect("written");
        replace(&path, b"22").expect("written again");
        assert_eq!(fs::read(&path).expect("read"), b"22");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(directory.path()).expect("listed").count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn an_intent_comes_back_and_none_is_empty() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(intent(directory.path()).expect("none"), StoredIntent::default());
        let kept = StoredIntent {
            objects: vec![crate::document::StoredObject {
                kind: crate::kind::KindName::Secret,
                name: "key".into(),
                base: "/etc/weft".into(),
                object: serde_json::json!({"spec": {"file": "site.key"}}),
            }],
        };
        keep(directory.path(), &kept).expect("kept");
        assert_eq!(intent(directory.path()).expect("there"), kept);
    }

    #[test]
    fn what_cannot_be_understood_is_said_with_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("intent.json"), "{").expect("written");
        let error = intent(directory.path()).expect_err("broken").to_string();
        assert!(
            error.contains("intent.json") && error.contains("move it away"),
            "{error}"
        );
    }
}

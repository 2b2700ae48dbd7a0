//! Key files: 64 hex digits, readable by their owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use lisp::mesh::SoftwareKey;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// Longest key or statement file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// A new key from the system's randomness.
///
/// # Errors
/// In words, when there is none.
pub fn generate() -> Result<SoftwareKey, String> {
    let random = SystemRandom::new();
    let mut bytes = Zeroizing::new([0; 32]);
    // Numbers that are no key are so rare that a second one in a row means broken randomness.
    for _ in 0..4 {
        random
            .fill(&mut bytes[..])
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        if let Ok(key) = SoftwareKey::from_bytes(&bytes) {
            return Ok(key);
        }
    }
    Err("the system's random numbers are none".to_owned())
}

/// Writes a key into a file that is not there yet, mode 0600, on the disk when this returns.
///
/// # Errors
/// In words, with what to do.
pub fn write_new(path: &Path, key: &SoftwareKey) -> Result<(), String> {
    let shown = path.display();
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(key.to_text().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        sync_folder(path)
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{shown} is there already and is not overwritten; choose another name, or move it away")
        }
        _ => format!("{shown} cannot be written: {error}; check the folder"),
    })
}

/// The key of a file that nobody but its owner may read.
///
/// # Errors
/// In words, with what to do.
pub fn read(path: &Path) -> Result<SoftwareKey, String> {
    let bytes = read_private(path)?;
    key(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// The key that a file's or a secret's bytes are.
///
/// # Errors
/// In words, with what to do; the bytes are not repeated.
pub fn key(bytes: &[u8]) -> Result<SoftwareKey, String> {
    std::str::from_utf8(bytes)
        .map_err(|_| "not text".to_owned())
        .and_then(|text| SoftwareKey::from_text(text).map_err(|error| error.to_string()))
        .map_err(|error| format!("{error}; make one with `weft key new FILE`"))
}

/// The bytes of a file that nobody but its owner may read.
///
/// # Errors
/// In words, with what to do.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let cannot = |error: io::Error| format!("{shown} cannot be read: {error}; check the path");
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{shown} may be read by others (mode {mode:04o}); run `chmod 600 {shown}`"
        ));
    }
    if metadata.len() > LIMIT {
        return Err(format!(
            "{shown} is longer than {LIMIT} bytes: that is no key; check the path"
        ));
    }
    // Room for all of it: growing would leave copies behind.
    let room = usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(LIMIT).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

/// The key of a file, which is made, together with its folder, when it is not there.
///
/// # Errors
/// In words, with what to do.
pub fn read_or_make(path: &Path) -> Result<SoftwareKey, String> {
    if path.try_exists().unwrap_or(true) {
        return read(path);
    }
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    let key = generate()?;
    write_new(path, &key)?;
    Ok(key)
}

/// Makes a folder that only its owner may enter; one that is there is made so.
///
/// # Errors
/// In words.
pub fn private_folder(folder: &Path) -> Result<(), String> {
    let make = || -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
    };
    make().map_err(|error| {
        format!(
            "{} cannot be made: {error}; check the folder it is in",
            folder.display()
        )
    })
}

/// Replaces a file at once, mode 0600: after a crash it is the old one or the new one.
///
/// # Errors
/// In words.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let write = || -> io::Result<()> {
        let next = path.with_extension("new");
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        sync_folder(path)
    };
    write().map_err(|error| format!("{} cannot be written: {error}; check the folder", path.display()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

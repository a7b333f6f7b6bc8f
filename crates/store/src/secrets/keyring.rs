//! Master keys, and the file they are kept in unless the operator keeps them elsewhere.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use freehold_base::file::write_private;
use freehold_base::{IdSource, Secret, hex};
use sha2::{Digest, Sha256};

use super::KEY;

/// Name of the file in the data directory that holds the master keys by default.
pub const KEY_FILE: &str = "secrets.key";
/// Keys of a keyring.
const MAX_KEYS: usize = 64;
/// Greatest key file, bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The master keys, newest first: the newest encrypts, all decrypt.
#[derive(Debug, Clone)]
pub struct Keyring {
    newest: MasterKey,
    older: Vec<MasterKey>,
}

/// One master key.
#[derive(Debug, Clone)]
pub(super) struct MasterKey {
    id: String,
    bytes: Secret<[u8; KEY]>,
}

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// No key is in it.
    #[error("there is no master key")]
    Empty,
    /// More than can be meant.
    #[error("there are more than {MAX_KEYS} master keys")]
    TooMany,
    /// One is not a key.
    #[error("master key number {number} is not 64 hexadecimal digits")]
    Malformed {
        /// Counted from 1.
        number: usize,
    },
    /// The file cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl MasterKey {
    fn new(bytes: [u8; KEY]) -> Self {
        let digest = Sha256::new()
            .chain_update(b"freehold master key")
            .chain_update(bytes)
            .finalize();
        Self {
            id: hex::encode(&digest[..8]),
            bytes: Secret::new(bytes),
        }
    }
    fn random(ids: &IdSource) -> Self {
        let mut bytes = [0; KEY];
        ids.fill(&mut bytes);
        Self::new(bytes)
    }
    /// Names the key without telling anything of it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
    pub(super) fn bytes(&self) -> &[u8; KEY] {
        self.bytes.expose()
    }
}

impl Keyring {
    /// A keyring of one fresh key.
    pub fn generate(ids: &IdSource) -> Self {
        Self {
            newest: MasterKey::random(ids),
            older: Vec::new(),
        }
    }

    /// Reads keys, newest first: 64 hexadecimal digits each, separated by white space or commas.
    /// Lines that begin with `#` are left out.
    ///
    /// # Errors
    /// [`KeyringError`], which repeats nothing of the text.
    pub fn parse(text: &Secret<String>) -> Result<Self, KeyringError> {
        let lines = text.expose().lines();
        let words = lines
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split(|c: char| c == ',' || c.is_whitespace()))
            .filter(|word| !word.is_empty());
        let mut keys = Vec::new();
        for (n, word) in words.enumerate() {
            let bytes =
                hex::decode::<KEY>(word).ok_or(KeyringError::Malformed { number: n + 1 })?;
            keys.push(MasterKey::new(bytes));
        }
        if keys.len() > MAX_KEYS {
            return Err(KeyringError::TooMany);
        }
        let mut keys = keys.into_iter();
        Ok(Self {
            newest: keys.next().ok_or(KeyringError::Empty)?,
            older: keys.collect(),
        })
    }

    /// The same with a fresh key that encrypts from now on.
    pub fn with_new(&self, ids: &IdSource) -> Self {
        let mut older = vec![self.newest.clone()];
        older.extend(self.older.iter().cloned());
        Self {
            newest: MasterKey::random(ids),
            older,
        }
    }

    /// Only the key that encrypts.
    pub fn newest_only(&self) -> Self {
        Self {
            newest: self.newest.clone(),
            older: Vec::new(),
        }
    }

    /// Ids of the keys, newest first. They tell nothing of the keys.
    pub fn ids(&self) -> Vec<String> {
        self.all().map(|key| key.id.clone()).collect()
    }

    /// Id of the key that encrypts.
    pub fn newest_id(&self) -> &str {
        &self.newest.id
    }

    pub(super) fn newest(&self) -> &MasterKey {
        &self.newest
    }

    pub(super) fn find(&self, id: &str) -> Option<&MasterKey> {
        self.all().find(|key| key.id == id)
    }

    fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub fn load(path: &Path) -> Result<Self, KeyringError> {
        let read = |file: File| {
            let mut text = String::new();
            file.take(MAX_FILE).read_to_string(&mut text)?;
            Ok(Secret::new(text))
        };
        let text = File::open(path)
            .and_then(read)
            .map_err(file("read", path))?;
        Self::parse(&text)
    }

    /// Reads a key file, and makes it with one fresh key if there is none. Only one process may do
    /// that at a time: the one that holds the data directory.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub fn load_or_create(path: &Path, ids: &IdSource) -> Result<Self, KeyringError> {
        match Self::load(path) {
            Err(KeyringError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let keys = Self::generate(ids);
                keys.save(path)?;
                Ok(keys)
            }
            loaded => loaded,
        }
    }

    /// Writes a key file that only its owner can read, in place of the one that was there. What is
    /// at `path` is at any time whole: the old or the new.
    ///
    /// # Errors
    /// [`KeyringError::File`].
    pub fn save(&self, path: &Path) -> Result<(), KeyringError> {
        let mut text =
            String::from("# Master keys of Freehold's secrets, newest first. Keep a copy.\n");
        for key in self.all() {
            text.push_str(&hex::encode(key.bytes()));
            text.push('\n');
        }
        write_private(path, text).map_err(file("write", path))
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyringError {
    let path = path.to_owned();
    move |source| KeyringError::File {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn parse(text: &str) -> Result<Keyring, KeyringError> {
        Keyring::parse(&Secret::new(text.to_owned()))
    }

    #[test]
    fn keys_are_read_newest_first() {
        let (a, b) = ("0a".repeat(32), "0B".repeat(32));
        let ids = parse(&format!("# ours\n{a}\n\n  {b}\r\n")).unwrap().ids();
        assert_eq!(ids, parse(&format!("{a},{b}")).unwrap().ids());
        assert_eq!(ids[0], parse(&a).unwrap().ids()[0]);
        assert_eq!(ids[1], parse(&b.to_lowercase()).unwrap().ids()[0]);
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let good = "0a".repeat(32);
        for bad in [
            "xy".repeat(32),
            "0a".repeat(31),
            "+a".repeat(32),
            "é".repeat(32),
        ] {
            let error = parse(&format!("{good} {bad}")).unwrap_err();
            assert_eq!(
                error.to_string(),
                "master key number 2 is not 64 hexadecimal digits"
            );
        }
        assert!(matches!(parse(" \n# x\n"), Err(KeyringError::Empty)));
        let many = vec![good.as_str(); MAX_KEYS + 1].join(" ");
        assert!(matches!(parse(&many), Err(KeyringError::TooMany)));
        let shown = format!("{:?}", parse(&good).unwrap());
        assert!(!shown.contains("10, 10"), "{shown}");
    }

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, ids) = (dir.path().join(KEY_FILE), IdSource::system());
        let made = Keyring::load_or_create(&path, &ids).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            Keyring::load_or_create(&path, &ids).unwrap().ids(),
            made.ids()
        );
        let more = made.with_new(&ids);
        more.save(&path).unwrap();
        assert_eq!(Keyring::load(&path).unwrap().ids(), more.ids());
        assert_eq!(more.ids()[1], made.ids()[0]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        std::fs::write(&path, "").unwrap();
        let refused = Keyring::load_or_create(&path, &IdSource::system());
        assert!(matches!(refused, Err(KeyringError::Empty)), "{refused:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}

//! Keys of blobs, and the names of files and objects that hold them: `ab/cdef…`.

/// Digits of the content's SHA-256.
const HASH: usize = 64;
/// Digits that make a key unique.
const ID: usize = 32;

/// A key for content that may be put more than once.
pub(super) fn unique(hash: &str, ids: &freehold_base::IdSource) -> String {
    format!("{hash}-{}", ids.hex(ID / 2))
}

/// The SHA-256 that a key begins with; `None` if it is no key of ours, so that none can name
/// another path.
pub(crate) fn hash(key: &str) -> Option<&str> {
    let digits = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (hash, id) = match key.split_once('-') {
        Some((hash, id)) => (hash, Some(id)),
        None => (key, None),
    };
    let unique = id.is_none_or(|id| id.len() == ID && digits(id));
    (hash.len() == HASH && digits(hash) && unique).then_some(hash)
}

/// Folder and name of what holds a blob; `None` as for [`hash`].
pub(crate) fn place(key: &str) -> Option<(&str, &str)> {
    hash(key).map(|_| key.split_at(2))
}

/// The key of what is held by such a folder and name.
pub(super) fn at(folder: &str, name: &str) -> Option<String> {
    let key = format!("{folder}{name}");
    (folder.len() == 2 && hash(&key).is_some()).then_some(key)
}

/// Whether two keys are of the same bytes.
pub(crate) fn same_content(a: &str, b: &str) -> bool {
    a == b || hash(a).is_some_and(|a| Some(a) == hash(b))
}

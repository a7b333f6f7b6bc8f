//! Memory stores of a session (contract 55 §14), as its sandbox is to show them.

use serde::Deserialize;
use serde_json::Value;

use crate::memory::MemoryMount;

/// Where stores are shown, each in a folder of its own.
const ROOT: &str = "/mnt/memory/";
/// Longest name of such a folder, bytes.
const MAX_NAME: usize = 255;

/// Why a session cannot be served with what it was promised.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// The endpoints of memory stores refuse environment keys.
    #[error("the session has memory stores, and the item has no token that opens them")]
    NoToken,
    /// A store has no id, or wants to be somewhere else.
    #[error("a memory store's mount path is not a folder in {ROOT}")]
    Path,
    /// Their sandbox cannot be made, or they cannot be downloaded.
    #[error("the session's memory stores cannot be mounted")]
    Unavailable(#[source] crate::local::SandboxUnavailable),
}

#[derive(Deserialize)]
struct Store {
    memory_store_id: String,
    #[serde(default)]
    mount_path: Option<String>,
    #[serde(default)]
    access: Option<String>,
}

/// The stores a session has.
pub(super) fn memory(session: &Value, has_token: bool) -> Result<Vec<MemoryMount>, MountsError> {
    let resources = session["resources"].as_array().into_iter().flatten();
    let stores = resources.filter(|resource| resource["type"] == "memory_store");
    let mounts: Vec<MemoryMount> = stores.map(mount).collect::<Result<_, _>>()?;
    if !mounts.is_empty() && !has_token {
        return Err(MountsError::NoToken);
    }
    Ok(mounts)
}

fn mount(resource: &Value) -> Result<MemoryMount, MountsError> {
    let store = Store::deserialize(resource).map_err(|_| MountsError::Path)?;
    let mount_path = match store.mount_path {
        Some(path) => path,
        None => format!("{ROOT}{}", store.memory_store_id),
    };
    let name = mount_path.strip_prefix(ROOT).unwrap_or_default();
    let whole = (1..=MAX_NAME).contains(&name.len()) && !matches!(name, "." | "..");
    if !whole || name.contains(['/', '\0']) {
        return Err(MountsError::Path);
    }
    Ok(MemoryMount {
        store: store
            .memory_store_id
            .parse()
            .map_err(|_| MountsError::Path)?,
        mount_path,
        // Whatever is not known to be writable is not.
        read_only: store.access.as_deref() != Some("read_write"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn session(path: Value, access: Value) -> Value {
        let store = json!({
            "type": "memory_store", "memory_store_id": "memstore_1", "mount_path": path,
            "access": access,
        });
        json!({ "resources": [{ "type": "file" }, store] })
    }

    #[test]
    fn stores_are_mounted_where_they_belong_and_nowhere_else() {
        let good = memory(
            &session(json!("/mnt/memory/notes"), json!("read_write")),
            true,
        )
        .unwrap();
        assert_eq!(good[0].mount_path, "/mnt/memory/notes");
        assert!(!good[0].read_only);
        for access in [json!("read_only"), json!(null), json!("other")] {
            assert!(memory(&session(json!(null), access), true).unwrap()[0].read_only);
        }
        for bad in [
            "/mnt/memory/",
            "/mnt/memory/..",
            "/mnt/memory/a/b",
            "/etc",
            "notes",
            "",
        ] {
            let read = memory(&session(json!(bad), json!("read_write")), true);
            assert!(matches!(read, Err(MountsError::Path)), "{bad}");
        }
        let read = memory(&session(json!(null), json!(null)), false);
        assert!(matches!(read, Err(MountsError::NoToken)));
        assert!(
            memory(&json!({ "resources": [] }), false)
                .unwrap()
                .is_empty()
        );
    }
}

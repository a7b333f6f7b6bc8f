//! What the model is told of attached memory stores (contract 74 §4).

use std::fmt::Write as _;

use freehold_wire::resource::{Access, MemoryStoreResource};

const INTRODUCTION: &str = "Memory stores are attached to this session as folders of text files. \
     What is in them outlives the session and may be shared with others. Look into them before you \
     start, and keep in the writable ones what later work will need. A file holds at most 102400 \
     bytes of UTF-8; links and other special files are not kept.";

/// The part of the system prompt about these stores.
pub(crate) fn note(stores: &[MemoryStoreResource]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for store in stores {
        let name = store
            .name
            .as_deref()
            .unwrap_or(store.memory_store_id.as_str());
        let path = store.mount_path.as_deref().unwrap_or_default();
        let access = match store.access {
            Access::ReadWrite => "read and write",
            Access::ReadOnly => "read only",
        };
        // Writing to a string does not fail.
        let _ = write!(text, "\n\n## {name}\nFolder: {path} ({access})");
        if !store.description.is_empty() {
            let _ = write!(text, "\nDescription: {}", store.description);
        }
        if let Some(instructions) = store.instructions.as_deref().filter(|i| !i.is_empty()) {
            let _ = write!(text, "\nInstructions: {instructions}");
        }
    }
    text
}

//! A workspace in a temporary directory, and calls as a model makes them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use freehold_tools::{Cancel, Root, ToolOutput, ToolSet, Workspace};
use serde_json::Value;
use serde_json::value::to_raw_value;

pub struct Desk {
    /// Holds the directory.
    dir: tempfile::TempDir,
    pub tools: ToolSet,
}

/// An empty workspace.
pub fn desk() -> Desk {
    desk_with(&[])
}

/// A workspace with directories beside it as extra roots; `(name, read_only)`.
pub fn desk_with(extra: &[(&str, bool)]) -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap();
    let root = top.join("work");
    std::fs::create_dir(&root).unwrap();
    let extra_roots = extra
        .iter()
        .map(|(name, read_only)| {
            let path = top.join(name);
            std::fs::create_dir(&path).unwrap();
            Root {
                path,
                read_only: *read_only,
            }
        })
        .collect();
    let env = [
        ("PATH", "/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("GIVEN", "yes"),
    ];
    let env = env
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
    Desk {
        dir,
        tools: ToolSet::new(Workspace { root, extra_roots }, env),
    }
}

impl Desk {
    /// Above the workspace.
    pub fn top(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub fn root(&self) -> PathBuf {
        self.top().join("work")
    }

    pub fn put(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    pub fn get(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap()
    }

    pub fn link(&self, target: impl AsRef<Path>, link: &str) {
        std::os::unix::fs::symlink(target, self.root().join(link)).unwrap();
    }

    pub fn fifo(&self, path: &str) {
        let path = self.root().join(path);
        let done = std::process::Command::new("mkfifo")
            .arg(path)
            .status()
            .unwrap();
        assert!(done.success());
    }

    pub fn call(&self, tool: &str, input: Value) -> ToolOutput {
        self.call_with(tool, input, &Cancel::new())
    }

    pub fn call_with(&self, tool: &str, input: Value, cancel: &Cancel) -> ToolOutput {
        self.tools
            .call(tool, &to_raw_value(&input).unwrap(), cancel)
    }

    /// The text of a call that must work.
    pub fn ok(&self, tool: &str, input: Value) -> String {
        let output = self.call(tool, input);
        assert!(!output.is_error, "{output:?}");
        text(&output)
    }

    /// The text of a call that must fail.
    pub fn err(&self, tool: &str, input: Value) -> String {
        let output = self.call(tool, input);
        assert!(output.is_error, "{output:?}");
        text(&output)
    }
}

/// The text of an output of one text block.
pub fn text(output: &ToolOutput) -> String {
    assert_eq!(output.content.len(), 1);
    assert_eq!(output.content[0]["type"], "text", "{output:?}");
    output.content[0]["text"].as_str().unwrap().to_owned()
}

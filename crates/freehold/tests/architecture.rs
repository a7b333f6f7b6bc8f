//! What ARCHITECTURE.md says of the house, and docs/tunnel-attacks.md of its tests, checked against the house.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Crate name to the crates of ours it depends on, from the manifests.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let folders = std::fs::read_dir(root().join("crates")).expect("the crates folder");
    folders
        .map(|folder| {
            let path = folder.expect("a folder").path();
            let text = std::fs::read_to_string(path.join("Cargo.toml")).expect("a manifest");
            let manifest: toml::Table = text.parse().expect("a valid manifest");
            let ours = manifest.get("dependencies").and_then(|d| d.as_table());
            let ours = ours
                .into_iter()
                .flatten()
                .filter_map(|(name, _)| name.strip_prefix("freehold-").map(str::to_owned));
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, ours.collect())
        })
        .collect()
}

/// The same, from the table of rooms; `None` for a crate that may depend on all.
fn allowed() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the document");
    let table = text
        .split("## The rooms")
        .nth(1)
        .expect("the table of rooms");
    table
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells[0].trim_matches('`').to_owned();
            let may = match cells[2] {
                "all" => None,
                "nothing of ours" => Some(BTreeSet::new()),
                list => {
                    let words = list.split(',').map(|w| w.split_whitespace().next());
                    Some(words.flatten().map(str::to_owned).collect())
                }
            };
            (name, may)
        })
        .collect()
}

#[test]
fn dependencies_are_those_of_the_table() {
    let (edges, allowed) = (edges(), allowed());
    let named: BTreeSet<_> = allowed.keys().collect();
    assert_eq!(
        edges.keys().collect::<BTreeSet<_>>(),
        named,
        "crates and the table of rooms"
    );
    for (name, uses) in &edges {
        if let Some(may) = &allowed[name] {
            let strange: Vec<_> = uses.difference(may).collect();
            assert!(
                strange.is_empty(),
                "{name} depends on {strange:?}, which the table forbids"
            );
        }
    }
    assert!(
        edges["server"].contains("runtime"),
        "the check sees no edges at all"
    );
}

#[test]
fn only_the_store_speaks_sql_and_wire_stays_pure() {
    let uses = |name: &str, wanted: &str| {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(path).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("a valid manifest");
        manifest["dependencies"]
            .as_table()
            .expect("dependencies")
            .contains_key(wanted)
    };
    for name in edges().keys() {
        // The load generator has a plain implementation to compare with.
        let may = matches!(name.as_str(), "store" | "bench");
        assert_eq!(uses(name, "rusqlite"), may, "{name} and SQL");
    }
    for name in ["wire", "engine"] {
        assert!(!uses(name, "tokio"), "{name} depends on tokio");
    }
}

/// Rows of docs/tunnel-attacks.md. The checklist has 50 lines: with as many rows all of them are there.
const ATTACKS: usize = 50;

#[test]
fn attacks_on_tunnels_are_tried_by_tests_that_exist() {
    let read = |file: &str| std::fs::read_to_string(root().join(file));
    let table = read("docs/tunnel-attacks.md").expect("the document");
    let is_row = |line: &&str| {
        let number = line.strip_prefix("| ");
        number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let (mut rows, mut last) = (0, 0);
    for row in table.lines().filter(is_row) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        let number: usize = cells[0].parse().expect("one number");
        assert!(last < number && number <= 50, "{number} after {last}");
        (rows, last) = (rows + 1, number);
        let named: Vec<_> = cells[3].split('`').skip(1).step_by(2).collect();
        assert!(
            !named.is_empty() || cells[3].starts_with("not tested: "),
            "{row}"
        );
        for test in named {
            let (file, name) = test.split_once("::").expect("path/of/file.rs::test");
            let text = read(file).unwrap_or_else(|e| panic!("{number}: {file}: {e}"));
            let exists = ["fn", "def"].map(|word| text.contains(&format!("{word} {name}(")));
            assert!(exists.contains(&true), "{number}: there is no {test}");
        }
    }
    assert_eq!(rows, ATTACKS);
}

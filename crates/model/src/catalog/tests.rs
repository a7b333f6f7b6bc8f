use super::*;

fn catalog(text: &str) -> Result<Catalog, CatalogError> {
    let config: CatalogConfig = toml::from_str(text).unwrap();
    Catalog::from_config(&config, &HashMap::new(), &IdSource::system())
}

const TWO: &str = "
[[providers]]
name = 'p'
type = 'messages'
base_url = 'http://127.0.0.1:1/x'
[[providers]]
name = 'q'
type = 'chat'
base_url = 'http://127.0.0.1:1'
[[models]]
id = 'old'
provider = 'p'
upstream = 'old-1'
created_at = '2025-01-01T00:00:00Z'
price = { input = 1, output = 2 }
[[models]]
id = 'new'
provider = 'q'
created_at = '2026-06-01T00:00:00Z'
supports = { system_messages = false }
";

#[test]
fn resolves_and_lists() {
    let catalog = catalog(TWO).unwrap();
    let ids: Vec<String> = catalog.list().iter().map(|m| m.id.clone()).collect();
    assert_eq!(ids, ["new", "rehearsal", "old"]);
    let old = catalog.resolve("old").unwrap();
    assert_eq!(old.upstream_id, "old-1");
    assert_eq!(old.price.unwrap().output, 2_000_000);
    assert_eq!(old.supports, Supports::ALL);
    assert_eq!(old.provider.describe().kind, "messages");
    let new = catalog.resolve("new").unwrap();
    assert!(!new.supports.system_messages && new.supports.images);
    assert_eq!(new.provider.describe().kind, "chat");
    assert!(new.price.is_none() && !new.is_rehearsal);
    assert!(catalog.resolve("rehearsal").unwrap().is_rehearsal);
    assert!(
        catalog
            .resolve("rehearsal")
            .unwrap()
            .display_name
            .contains("not a language model")
    );
    assert!(catalog.resolve("claude-opus-5").is_none());
}

#[test]
fn the_fallback_takes_every_other_id() {
    let mut catalog = catalog(TWO).unwrap();
    catalog
        .set_fallback_url("http://127.0.0.1:2", None, Timeouts::default())
        .unwrap();
    let entry = catalog.resolve("claude-opus-5").unwrap();
    assert_eq!(
        (entry.id.as_str(), entry.upstream_id.as_str()),
        ("claude-opus-5", "claude-opus-5")
    );
    assert_eq!(
        entry.provider.describe().endpoint.as_deref(),
        Some("http://127.0.0.1:2/")
    );
    assert!(entry.price.is_none());
    assert!(catalog.resolve("rehearsal").unwrap().is_rehearsal);
    assert!(catalog.resolve("").is_none());
    assert!(catalog.resolve(&"x".repeat(257)).is_none());
    assert_eq!(catalog.list().len(), 3);
}

#[test]
fn rehearsal_can_be_left_out() {
    assert!(
        catalog("[rehearsal]\nenabled = false")
            .unwrap()
            .list()
            .is_empty()
    );
}

#[test]
fn a_bad_url_names_its_provider() {
    let text = "[[providers]]\nname = 'p'\ntype = 'chat'\nbase_url = 'localhost:8080'";
    let error = catalog(text).err().unwrap().to_string();
    assert!(
        error.contains("`p`") && error.contains("base_url"),
        "{error}"
    );
}

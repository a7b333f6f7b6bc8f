use super::*;

fn read(text: &str) -> CatalogConfig {
    toml::from_str(text).unwrap()
}

const FULL: &str = r#"
[[providers]]
name = "a"
type = "messages"
base_url = "https://models.example.com/x"
key_env = "A_KEY"
timeouts = { idle_ms = 5000 }

[[providers]]
name = "local"
type = "chat"
base_url = "http://127.0.0.1:8080/v1"
mid_system = "user"

[[models]]
id = "big"
provider = "a"
upstream = "big-2"
display_name = "Big"
context_window = 1000000
max_output_tokens = 64000
created_at = "2026-06-01T00:00:00Z"
price = { input = "3", output = 15, cache_write_5m = 3.75, cache_read = "0.30" }
supports = { images = false }

[[models]]
id = "small"
provider = "local"

[rehearsal]
delay_ms = 0

[rates]
running_hour = "0.10"
"#;

#[test]
fn a_full_configuration() {
    let config = read(FULL);
    config.check().unwrap();
    assert_eq!(config.providers[0].timeouts.idle_ms, 5_000);
    assert_eq!(config.providers[0].timeouts.connect_ms, 10_000);
    assert_eq!(config.providers[1].mid_system, MidSystem::User);
    let price = config.models[0].price.unwrap().price();
    assert_eq!(
        price,
        Price {
            input: 3_000_000,
            output: 15_000_000,
            cache_write_5m: 3_750_000,
            cache_write_1h: 6_000_000,
            cache_read: 300_000,
        }
    );
    assert!(config.rehearsal.enabled);
    assert_eq!(config.rates.running_hour.micros(), 100_000);
    assert_eq!(config.rates.web_search_per_1000.micros(), 10_000_000);
}

#[test]
fn nothing_configured_is_a_configuration() {
    let config = read("");
    config.check().unwrap();
    assert!(config.rehearsal.enabled);
    assert_eq!(config.rehearsal.delay_ms, 500);
}

#[test]
fn unknown_keys_are_refused() {
    for text in [
        "x = 1",
        "[rehearsal]\ndelay = 3",
        "[rates]\nper_call = 1",
        "[[models]]\nid='a'\nprovider='p'\nsize=1",
        "[[providers]]\nname='a'\ntype='messages'\nbase_url='x'\nkey='secret'",
        "[[providers]]\nname='a'\ntype='other'\nbase_url='x'",
    ] {
        assert!(toml::from_str::<CatalogConfig>(text).is_err(), "{text}");
    }
}

#[test]
fn wrong_values_name_their_place() {
    let provider = "[[providers]]\nname='a'\ntype='messages'\nbase_url='http://x'\n";
    for (text, place) in [
        (format!("{provider}{provider}"), "providers[1].name"),
        (
            format!("{provider}key_env='A'\nkey_file='b'"),
            "providers[0].key_file",
        ),
        (
            format!("{provider}mid_system='user'"),
            "providers[0].mid_system",
        ),
        (
            format!("{provider}timeouts={{idle_ms=0}}"),
            "providers[0].timeouts",
        ),
        (
            "[[models]]\nid='m'\nprovider='nobody'".into(),
            "models[0].provider",
        ),
        (
            format!("{provider}[[models]]\nid='rehearsal'\nprovider='a'"),
            "models[0].id",
        ),
        (
            format!("{provider}[[models]]\nid=''\nprovider='a'"),
            "models[0].id",
        ),
        (
            format!("{provider}[[models]]\nid='m'\nprovider='a'\ncontext_window=10"),
            "models[0].max_output_tokens",
        ),
        ("[rehearsal]\ndelay_ms=600001".into(), "rehearsal.delay_ms"),
    ] {
        let error = read(&text).check().unwrap_err().to_string();
        assert!(error.starts_with(place), "{place}: {error}");
    }
}

#[test]
fn amounts_of_money() {
    let usd = |text: &str| text.parse::<Usd>().map(Usd::micros);
    assert_eq!(usd("0.000001"), Ok(1));
    assert_eq!(usd("12.5"), Ok(12_500_000));
    assert_eq!(usd("1000000"), Ok(1_000_000_000_000));
    for bad in [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1e3",
        "0.0000001",
        "1000000.1",
        "1 ",
        "٣",
    ] {
        assert!(usd(bad).is_err(), "{bad}");
    }
    let config = read("[rates]\nrunning_hour = 0.08");
    assert_eq!(config.rates.running_hour.micros(), 80_000);
    assert!(toml::from_str::<CatalogConfig>("[rates]\nrunning_hour = -1").is_err());
    assert!(toml::from_str::<CatalogConfig>("[rates]\nrunning_hour = nan").is_err());
}

#[test]
fn rates_are_exact() {
    let rates = Rates::default();
    // 1000 searches cost 10 USD, an hour 0.08 USD.
    assert_eq!(rates.searches(1_000), 10 * 1_000_000_000_000);
    assert_eq!(rates.running(3_600_000_000), 80_000_000_000);
    assert_eq!(rates.searches(1), 10_000_000_000);
}

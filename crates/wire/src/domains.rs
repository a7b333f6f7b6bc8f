//! Domain lists of the web tools (contract 10, "Domain rules"; contract 55 §12): which entries are
//! accepted, and which hosts an entry covers. Pure text work: nothing is resolved.

use std::collections::BTreeMap;

/// Longest host name, characters (RFC 1035 in its text form).
const MAX_HOST: usize = 253;
/// Longest label of a host name, characters.
const MAX_LABEL: usize = 63;
/// What an IP address in a list is told; literal in contract 10.
const NO_ADDRESSES: &str =
    "IP addresses are not supported; provide a plain hostname like \"example.com\"";
/// Names that never leave a machine or a site.
const LOCAL: &[&str] = &["localhost", "local", "internal", "localdomain", "invalid"];
/// Characters that a path suffix may not hold, beside white space and control characters.
const NOT_IN_PATH: &[char] = &['?', '#', '$', ',', '|', '^', '!', '\\'];

/// Checks the entries of `allowed_domains` or `blocked_domains`; only those of `web_search` may
/// carry a path (`allows_path`). How many entries there may be and how long each is the caller's.
///
/// # Errors
/// The position of the first bad entry and a message for the caller.
pub fn validate(list: &[String], allows_path: bool) -> Result<(), (usize, String)> {
    let mut seen = BTreeMap::new();
    for (index, entry) in list.iter().enumerate() {
        check(entry, allows_path).map_err(|message| (index, message))?;
        let rule = Rule::of(entry);
        if let Some(first) = seen.insert((rule.host, rule.path.to_owned()), index) {
            return Err((index, format!("duplicate of the domain at index {first}")));
        }
    }
    Ok(())
}

/// Whether `entry`, one that [`validate`] accepts, covers `path` on `host`: the host itself and its
/// subdomains, and, when the entry has a path, that path and what is below it.
pub fn covers(entry: &str, host: &str, path: &str) -> bool {
    let rule = Rule::of(entry);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let on_host = host == rule.host
        || host
            .strip_suffix(&rule.host)
            .is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'));
    let below = rule.path.is_empty()
        || path
            .trim_start_matches('/')
            .strip_prefix(rule.path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    on_host && below
}

/// An entry in parts.
struct Rule<'a> {
    host: String,
    /// Without slashes at its ends.
    path: &'a str,
}

impl<'a> Rule<'a> {
    fn of(entry: &'a str) -> Self {
        let (host, path) = parts(entry);
        Self {
            host: host.to_ascii_lowercase(),
            path: path.unwrap_or_default(),
        }
    }
}

/// The host, and what follows its slash; one slash at the end of the entry does not count.
fn parts(entry: &str) -> (&str, Option<&str>) {
    let entry = entry.strip_suffix('/').unwrap_or(entry);
    match entry.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (entry, None),
    }
}

fn check(entry: &str, allows_path: bool) -> Result<(), String> {
    let refuse = |why: &str| {
        Err(format!(
            "{why}; provide a plain hostname like \"example.com\""
        ))
    };
    if entry.contains("://") {
        return refuse("URL schemes are not supported");
    }
    let (host, path) = parts(entry);
    if let Some(path) = path {
        if !allows_path {
            return refuse("paths are not supported");
        }
        let bad = |c: char| c.is_whitespace() || c.is_control() || NOT_IN_PATH.contains(&c);
        if path.is_empty() || path.starts_with('/') || path.contains(bad) {
            return Err(
                "the path is not valid; it may not be empty or contain spaces or any \
                        of ? # $ , | ^ ! \\"
                    .to_owned(),
            );
        }
    }
    if is_address(host) {
        return Err(NO_ADDRESSES.to_owned());
    }
    if host.contains('@') {
        return refuse("credentials are not supported");
    }
    if host.contains(':') {
        return refuse("ports are not supported");
    }
    if host.contains('*') {
        return refuse("wildcards are not supported (a domain covers its subdomains)");
    }
    if !host.is_ascii() {
        return Err("internationalized names must be given in their xn-- form".to_owned());
    }
    if !host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        return refuse("a hostname may only contain ASCII letters, digits, '-', '_' and '.'");
    }
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    let fits = |label: &&str| (1..=MAX_LABEL).contains(&label.len());
    if host.len() > MAX_HOST || !labels.iter().all(fits) {
        return refuse("every part of a hostname must have 1 to 63 characters");
    }
    if labels
        .iter()
        .any(|label| label.starts_with('-') || label.ends_with('-'))
    {
        return refuse("no part of a hostname may start or end with '-'");
    }
    if labels.last().is_some_and(|last| LOCAL.contains(last)) {
        return refuse("local names are not supported");
    }
    if labels.len() == 1 || is_registry(&labels) {
        return refuse("top-level domains and registry suffixes are not supported");
    }
    Ok(())
}

/// Whether a URL parser would read `host` as an address: brackets or colons with nothing but hex
/// digits, or a last label that is a number in any notation (`127.1`, `0x7f.1`, `2130706433`).
fn is_address(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next());
    if let Some(v6) = bracketed.or_else(|| (host.matches(':').count() > 1).then_some(host)) {
        let v6 = v6.split('%').next().unwrap_or_default();
        return v6
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
    }
    let name = host.split(':').next().unwrap_or_default();
    let last = name
        .strip_suffix('.')
        .unwrap_or(name)
        .rsplit('.')
        .next()
        .unwrap_or_default();
    let digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match digits {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// Whether the labels of a lower-case name are a suffix under which a registry sells names.
fn is_registry(labels: &[&str]) -> bool {
    let [second, top] = labels else {
        return false;
    };
    ANY_SECOND_LEVEL.contains(top)
        || SECOND_LEVEL
            .binary_search_by_key(second, |(label, _)| label)
            .is_ok_and(|found| {
                SECOND_LEVEL[found]
                    .1
                    .split(' ')
                    .any(|country| country == *top)
            })
}

/// Countries all of whose second-level names belong to the registry.
const ANY_SECOND_LEVEL: &[&str] = &["bd", "ck", "er", "fk", "jm", "kh", "mm", "np", "pg"];

/// Second-level names that registries of three or more countries reserve, and those countries: the
/// part of the public suffix list (ICANN section) that people do type. Place names (Japan, Norway,
/// United States) are left out: such an entry is accepted and merely covers more than was meant.
#[rustfmt::skip]
const SECOND_LEVEL: &[(&str, &str)] = &[
    (
        "ac",
        "ae at be ci cn cr cy fj gn id il im in ir jp ke kr lk ls ma me mu mw mz ni nz pa pr rs \
         rw se sz th tj tz ug uk vn za zm zw",
    ),
    ("agro", "bj bo pl"),
    ("al", "it no us"),
    ("art", "br do dz ht sn"),
    ("arts", "co nf ro ve"),
    ("asso", "ci dz fr gp ht km mc nc re"),
    ("biz", "az bb cy et fj id in ki ls mv mw my ni nr pk pl pr ss tj tr tt vn zm"),
    ("ca", "in it na us"),
    ("cn", "in it ua"),
    (
        "co",
        "ae ag am ao at bb bi bj bw ci cl cm cr gg gl gy hu id il im in ir it je jp ke kr lc ls \
         ma me mg mu mw mz na ni nz om pn pw rs rw st sz th tj tm tt tz ug uk us uz ve vi za zm \
         zw",
    ),
    (
        "com",
        "ac af ag ai al am ar au aw az ba bb bh bi bj bm bn bo br bs bt by bz ci cm cn co cu cv \
         cw cy dm do dz ec ee eg es et fj fm fr ge gh gi gl gn gp gr gt gu gy hk hn hr ht im in \
         io iq is jo kg ki km kp kw ky kz la lb lc lk lr lv ly mg mk ml mo ms mt mu mv mw mx my \
         na nf ng ni nr om pa pe pf ph pk pl pr ps pt py qa re ro sa sb sc sd sg sh sl sn so ss \
         st sv sy tj tm tn to tr tt tw ua ug uy uz vc ve vi vn vu ws ye zm",
    ),
    ("coop", "ar br ht in km mv mw py rw tt"),
    ("dr", "in na tr"),
    ("ed", "ao ci cr jp pw"),
    (
        "edu",
        "ac af al ar au az ba bb bh bi bj bm bn bo br bs bt bz ci cn co cu cv cw dm do dz ec ee \
         eg es et fm gd ge gh gi gl gn gp gr gt gu gy hk hn ht in iq is it jo kg ki km kn kp kw \
         ky kz la lb lc lk lr ls lv ly me mg mk ml mn mo ms mt mv mw mx my mz ng ni nr om pa pe \
         pf ph pk pl pn pr ps pt py qa rs sa sb sc sd sg sl sn so ss st sv sy tj tm to tr tt tw \
         ua uy vc ve vn vu ws ye za zm",
    ),
    ("firm", "co ht in nf ro ve"),
    ("fm", "br it no"),
    ("gen", "in nz tr"),
    ("go", "ci cr id it jp ke kr pw th tj tz ug"),
    ("gob", "ar bo cl do ec es gt hn mx ni pa pe pk sv ve"),
    ("gouv", "ci fr ht km ml sn"),
    (
        "gov",
        "ac ae af al ar as au az ba bb bf bh bm bn br bs bt by bz cd cl cm cn co cu cx cy dm do \
         dz ec ee eg et fj gd ge gh gi gn gr gu gy hk ie il in iq ir is it jo kg ki km kn kp kw \
         kz la lb lc lk lr ls lt lv ly ma me mg mk ml mn mo mr ms mu mv mw my mz ng nr om ph pk \
         pl pn pr ps pt py qa rs rw sa sb sc sd sg sh sl so ss sx sy tj tl tm tn to tr tt tw ua \
         uk vc ve vn ws ye za zm zw",
    ),
    ("hotel", "hu lk tz"),
    ("id", "au ir lv ly us"),
    ("in", "na ni rs th ua us"),
    ("ind", "br gt in kw tn"),
    ("inf", "br cu mk"),
    (
        "info",
        "au az bb bj bo co ec et fj gu ht hu in ke ki la ls mv na nf ni nr pk pl pr ro sd tn tr \
         tt tz ve vn zm",
    ),
    ("int", "ar az bo ci co cv in is la lk mv mw ni pt tj tt ve vn"),
    ("k12", "ec il tr vi"),
    ("ltd", "cy gi lk uk"),
    ("me", "in it ke so ss tz uk us"),
    ("med", "br ec ee ht ly om pa sa sd"),
    ("mi", "it th us"),
    (
        "mil",
        "ac ae al ar az ba bo br by cl cn co cy do ec eg fj ge gh gt hn id in iq jo kg km kr kz \
         lv mg mv my mz ng ni no nz pe ph pl py qa rw sh st sy tj tm to tr tw tz uy vc ve ye za \
         zm zw",
    ),
    ("mo", "cn it us"),
    ("mobi", "gp ke na ng tt tz"),
    ("ms", "it kr us"),
    ("museum", "mv mw no om tt"),
    ("name", "az eg et fj hr jo mk mv my na ng pr qa tj tr tt vn"),
    ("ne", "jp ke kr pw tz ug us"),
    (
        "net",
        "ac ae af ag ai al am ar au az ba bb bh bj bm bn bo br bs bt bz ci cm cn co cu cw cy dm \
         do dz ec eg et fj fm ge gg gl gn gp gr gt gu gy hk hn ht id il im in iq ir is je jo kg \
         ki kn kw ky kz la lb lc lk lr ls lv ly ma me mk ml mo ms mt mu mv mw mx my mz nf ng ni \
         nr nz om pa pe ph pk pl pn pr ps pt py qa rw sa sb sc sd sg sh sl so ss st sy th tj tm \
         tn to tr tt tw ua uk uy uz vc ve vi vn vu ws ye za zm",
    ),
    ("ngo", "lk ph za"),
    ("nic", "in tj za"),
    ("nom", "ad ag co es fr km mg nc ni pa pe pl re ro tm ve za"),
    ("nt", "au ca no ro"),
    ("or", "at bi ci cr id it jp ke kr mu na pw th tz ug us"),
    (
        "org",
        "ac ae af ag ai al am ar au az ba bb bh bi bj bm bn bo br bs bt bw bz ci cn co cu cv cw \
         cy dm do dz ec ee eg es et fj fm ge gg gh gi gl gn gp gr gt gu gy hk hn ht hu il im in \
         iq ir is je jo kg ki km kn kp kw ky kz la lb lc lk lr ls lv ly ma me mg mk ml mn mo ms \
         mt mu mv mw mx my mz na ng ni nr nz om pa pe pf ph pk pl pn pr ps pt py qa ro rs rw sa \
         sb sc sd se sg sh sl sn so ss st sv sy sz tj tm tn to tr tt tw ua ug uk uy uz vc ve vi \
         vn vu ws ye za zm zw",
    ),
    ("pe", "ca it kr"),
    ("per", "la nf sg"),
    ("perso", "ht sn tn"),
    ("pol", "dz ht tr"),
    ("prd", "fr km mg"),
    ("press", "cy ma se"),
    ("presse", "ci km ml"),
    ("priv", "hu me no pl"),
    ("pro", "az br cy ec fj ht in mv na om pr tt vn"),
    ("rec", "br co nf ro ve"),
    ("sa", "au cr it"),
    ("sc", "cn ke kr ls tz ug us"),
    ("sch", "ae id ir jo lk ly ng qa sa ss zm"),
    ("school", "na nz za"),
    ("shop", "ht hu pl"),
    ("store", "bb nf ro st ve"),
    ("tm", "cy dz fr hu km mc mg no pl ro se za"),
    ("tourism", "bj pl tn"),
    ("travel", "in pl tt"),
    ("tv", "bb bo br im in it na sd tr tz"),
    ("va", "it no us"),
    ("web", "bo co do gu id lk nf ni pk tj tr ve za"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(entry: &str, allows_path: bool) -> Result<(), String> {
        validate(&[entry.to_owned()], allows_path).map_err(|(index, message)| {
            assert_eq!(index, 0);
            message
        })
    }

    #[test]
    fn plain_names_are_accepted() {
        for good in [
            "example.com",
            "EXAMPLE.com/",
            "docs.example.co.uk",
            "a_b.example.org",
            "xn--bcher-kva.example",
            "1.example.com",
            "3m.com",
            "x.0xcafe.dev",
            "internal.example.com",
        ] {
            assert_eq!(one(good, false), Ok(()), "{good}");
        }
        assert_eq!(one("example.com/docs/api", true), Ok(()));
    }

    #[test]
    fn everything_else_is_refused() {
        for (bad, says) in [
            ("https://example.com", "schemes"),
            ("example.com:443", "ports"),
            ("user@example.com", "credentials"),
            ("*.example.com", "wildcards"),
            ("exa mple.com", "ASCII letters"),
            ("example.com ", "ASCII letters"),
            ("bücher.example", "xn--"),
            ("-a.example.com", "start or end"),
            ("a-.example.com", "start or end"),
            ("a..example.com", "1 to 63"),
            (".example.com", "1 to 63"),
            ("example.com.", "1 to 63"),
            ("", "1 to 63"),
            ("/", "1 to 63"),
            ("com", "registry"),
            ("co.uk", "registry"),
            ("COM.au", "registry"),
            ("anything.ck", "registry"),
            ("localhost", "local names"),
            ("a.localhost", "local names"),
            ("printer.local", "local names"),
            ("db.internal", "local names"),
            ("a.localdomain", "local names"),
            ("a.invalid", "local names"),
            ("example.com/docs", "paths"),
        ] {
            let message = one(bad, false).unwrap_err();
            assert!(message.contains(says), "{bad}: {message}");
        }
        for bad in [
            "a b", "a?b", "a#b", "a$", "a,b", "a|b", "^a", "a!", "/a", "a\n",
        ] {
            assert!(one(&format!("example.com/{bad}"), true).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_in_any_notation_are_named_as_such() {
        for bad in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "1.2.3.4.",
            "10.0.0.1:80",
            "::1",
            "[::1]",
            "[::1]:80",
            "2001:db8::1",
            "fe80::1%eth0",
            "foo.0x1",
        ] {
            assert_eq!(one(bad, false), Err(NO_ADDRESSES.to_owned()), "{bad}");
        }
    }

    #[test]
    fn duplicates_are_refused_where_they_stand() {
        let list = ["a.com", "b.com/x", "B.com/x/", "a.com/"].map(str::to_owned);
        let (index, message) = validate(&list, true).unwrap_err();
        assert_eq!(
            (index, message.as_str()),
            (2, "duplicate of the domain at index 1")
        );
        assert_eq!(
            validate(&["a.com", "www.a.com"].map(str::to_owned), false),
            Ok(())
        );
    }

    #[test]
    fn an_entry_covers_its_host_subdomains_and_path() {
        for (entry, host, path, covered) in [
            ("example.com", "example.com", "/", true),
            ("Example.com/", "API.example.com", "/x", true),
            ("example.com", "example.com.", "/", true),
            ("example.com", "badexample.com", "/", false),
            ("example.com", "example.com.evil.org", "/", false),
            ("example.com", ".example.com", "/", false),
            ("www.example.com", "example.com", "/", false),
            ("example.com/docs", "example.com", "/docs", true),
            ("example.com/docs", "example.com", "/docs/a", true),
            ("example.com/docs", "example.com", "/docs?q", true),
            ("example.com/docs", "example.com", "/docsets", false),
            ("example.com/docs", "example.com", "/", false),
        ] {
            assert_eq!(covers(entry, host, path), covered, "{entry} {host}{path}");
        }
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(SECOND_LEVEL.is_sorted_by_key(|(label, _)| label));
    }

    proptest! {
        #[test]
        fn never_panics_and_accepted_entries_cover_themselves(entry in "\\PC{0,40}") {
            for allows_path in [false, true] {
                if validate(std::slice::from_ref(&entry), allows_path).is_ok() {
                    let (host, path) = parts(&entry);
                    let (sub, path) = (format!("sub.{host}"), path.unwrap_or_default());
                    prop_assert!(covers(&entry, host, path) && covers(&entry, &sub, path));
                    prop_assert!(!host.contains([':', '@', '*', ' ', '/', '[']));
                    prop_assert!(host.parse::<std::net::IpAddr>().is_err());
                }
            }
        }
    }
}

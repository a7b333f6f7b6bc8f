//! What a server wrote, made fit for clients, logs and the model.

/// Shortest credential that is looked for: a shorter one would be found by chance.
const SHORTEST: usize = 8;

/// Whether `text` holds the credential.
pub(crate) fn holds(text: &str, bearer: Option<&str>) -> bool {
    bearer.is_some_and(|bearer| bearer.len() >= SHORTEST && text.contains(bearer))
}

/// `text` without the credential.
pub(crate) fn mask(text: String, bearer: Option<&str>) -> String {
    match bearer {
        Some(bearer) if holds(&text, Some(bearer)) => text.replace(bearer, "[redacted]"),
        _ => text,
    }
}

/// One line of at most `limit` characters: no control characters, nothing that changes how text
/// around it is shown.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut chars = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !unseen(*c));
    let mut cleaned: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        cleaned.push('…');
    }
    cleaned
}

//! What servers say, for people. All of it is hostile: what does not show is spelled out, so that
//! nobody approves what they cannot see.

use freehold_mcp::catalogue::visible;
use serde_json::Value;

use crate::commands::connect::text;
use crate::terminal::{Style, Styles, age, clean, clean_line, table};

/// Digits of a fingerprint that are shown.
const DIGITS: usize = 12;

pub(super) fn servers(all: &[Value]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|server| {
            let n = |state: &str| server["tools"][state].as_u64().unwrap_or(0);
            let pinned = server["pinned"].as_bool() == Some(true);
            let waiting = match (pinned, n("new") + n("changed")) {
                (true, waiting) if 0 < waiting => format!("{waiting} held back"),
                _ => String::new(),
            };
            let states = ["approved", "new", "changed", "refused", "deprecated"];
            vec![
                text(server, "/id").to_owned(),
                text(server, "/url").to_owned(),
                if pinned { "yes" } else { "no" }.to_owned(),
                states.map(n).iter().sum::<u64>().to_string(),
                age(text(server, "/last_seen_at")),
                waiting,
            ]
        })
        .collect();
    let headings = ["ID", "URL", "PINNED", "TOOLS", "SEEN", ""];
    table(&headings, &rows, "no MCP server was used yet")
}

pub(super) fn server(server: &Value) -> String {
    let classes = server.pointer("/policy/confirm_classes");
    let classes = classes.and_then(Value::as_array).into_iter().flatten();
    let classes: Vec<&str> = classes.filter_map(Value::as_str).collect();
    let pinned = match server["pinned"].as_bool() {
        Some(true) => "pinned",
        _ => "not pinned",
    };
    let confirm = match classes.is_empty() {
        true => "no class of tools must be confirmed".to_owned(),
        false => format!("to be confirmed: {}", classes.join(", ")),
    };
    let url = clean(text(server, "/url"));
    format!("{url}: {pinned}; {}", clean(&confirm))
}

pub(super) fn tools(all: &[Value]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|tool| {
            let flags = tool["flags"].as_array().map_or(0, Vec::len);
            let offered = tool["offered"].as_bool() == Some(true);
            vec![
                visible(text(tool, "/name")),
                text(tool, "/state").to_owned(),
                if offered { "yes" } else { "no" }.to_owned(),
                text(tool, "/class").to_owned(),
                short(text(tool, "/fingerprint")),
                match flags {
                    0 => String::new(),
                    n => format!("{n} suspicious"),
                },
            ]
        })
        .collect();
    let headings = ["TOOL", "STATE", "OFFERED", "CLASS", "DEFINITION", ""];
    table(&headings, &rows, "the server has no tools")
}

/// One line on where a tool stands.
pub(super) fn standing(tool: &Value) -> String {
    let offered = match tool["offered"].as_bool() {
        Some(true) => "offered",
        _ => "not offered",
    };
    let confirm = match tool["confirm"].as_bool() {
        Some(true) => ", each call to be confirmed",
        _ => "",
    };
    format!(
        "{}: {}, {offered}, class {}{confirm}",
        clean_line(&visible(text(tool, "/name")), 128),
        clean(text(tool, "/state")),
        clean(text(tool, "/class")),
    )
}

pub(super) fn tool(tool: &Value) -> String {
    let styles = Styles::stdout();
    let mut lines = vec![standing(tool)];
    flags(tool, styles, &mut lines);
    for version in tool["versions"].as_array().into_iter().flatten() {
        let marks = ["current", "approved", "refused"];
        let marks = marks.into_iter().filter(|m| version[*m] == true);
        let marks: Vec<_> = marks.collect();
        let head = format!(
            "{}  first seen {}  {}",
            short(text(version, "/fingerprint")),
            age(text(version, "/first_seen_at")),
            marks.join(", ")
        );
        lines.push(String::new());
        lines.push(styles.paint(Style::Bold, head.trim_end()));
        lines.push(value(&version["definition"]));
    }
    lines.join("\n")
}

pub(super) fn diff(diff: &Value) -> String {
    let styles = Styles::stdout();
    let tools = diff["tools"].as_array().map_or(&[][..], Vec::as_slice);
    if tools.is_empty() {
        return "nothing waits for a decision".to_owned();
    }
    let mut lines = Vec::new();
    for tool in tools {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let name = clean_line(&visible(text(tool, "/name")), 128);
        let (from, to) = (
            text(tool, "/from_fingerprint"),
            text(tool, "/to_fingerprint"),
        );
        let sides = match (from, to) {
            ("", to) => short(to),
            (from, "") => format!("{} is no longer served", short(from)),
            (from, to) => format!("{} -> {}", short(from), short(to)),
        };
        let state = clean(text(tool, "/state"));
        lines.push(styles.paint(Style::Bold, &format!("{name}  {state}  {sides}")));
        let renamed = text(tool, "/renamed_from");
        if !renamed.is_empty() {
            let from = clean_line(&visible(renamed), 128);
            let hint = format!("  takes the same input as `{from}`, which is gone: a rename?");
            lines.push(styles.paint(Style::Warn, &hint));
        }
        flags(tool, styles, &mut lines);
        for change in tool["changes"].as_array().into_iter().flatten() {
            lines.push(format!(
                "  {}",
                clean_line(&visible(text(change, "/field")), 200)
            ));
            side('-', &change["old"], Style::Bad, styles, &mut lines);
            side('+', &change["new"], Style::Good, styles, &mut lines);
        }
    }
    lines.push(String::new());
    let server = clean(text(diff, "/server_id"));
    let hint = format!("freehold mcp approve|refuse {server} TOOL FINGERPRINT decides");
    lines.push(styles.paint(Style::Dim, &hint));
    lines.join("\n")
}

fn side(sign: char, shown: &Value, style: Style, styles: Styles, lines: &mut Vec<String>) {
    if shown.is_null() {
        return;
    }
    for line in value(shown).lines() {
        lines.push(styles.paint(style, &format!("  {sign} {line}")));
    }
}

fn flags(tool: &Value, styles: Styles, lines: &mut Vec<String>) {
    for flag in tool["flags"].as_array().into_iter().flatten() {
        let kind = text(flag, "/kind").replace('_', " ");
        let (field, detail) = (text(flag, "/field"), text(flag, "/detail"));
        let line = clean_line(&visible(&format!("{field}: {kind}: {detail}")), 300);
        lines.push(styles.paint(Style::Warn, &format!("  ! {line}")));
    }
}

/// A text as it is, anything else as JSON; what does not show is spelled out.
fn value(shown: &Value) -> String {
    let plain = match shown {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    clean(&visible(&plain))
}

fn short(fingerprint: &str) -> String {
    clean(&fingerprint.chars().take(DIGITS).collect::<String>())
}

pub(super) fn audit(all: &[Value]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|entry| {
            let who = match text(entry, "/detail/owner") {
                "" => text(entry, "/detail/by"),
                owner => owner,
            };
            vec![
                age(text(entry, "/created_at")),
                text(entry, "/action").to_owned(),
                visible(text(entry, "/tool")),
                text(entry, "/outcome").to_owned(),
                who.to_owned(),
                text(entry, "/server_url").to_owned(),
            ]
        })
        .collect();
    let headings = ["WHEN", "ACTION", "TOOL", "OUTCOME", "WHO", "SERVER"];
    table(&headings, &rows, "nothing was asked of MCP servers yet")
}

//! What the model shall do, carried in the user's message: `bench:WORK:COUNT:NUMBER`.

use std::fmt;

use serde::Deserialize;

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A text.
    Text,
    /// This many calls of the custom tool `hold`, all at once; a text when they are answered.
    Hold(usize),
    /// This many calls of `bash`, one after another, then a text.
    Bash(usize),
}

/// One message's worth of work, with a number that tells it from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) work: Work,
    pub(crate) number: u64,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, count) = match self.work {
            Work::Text => ("text", 0),
            Work::Hold(count) => ("hold", count),
            Work::Bash(count) => ("bash", count),
        };
        write!(f, "bench:{word}:{count}:{}", self.number)
    }
}

impl Order {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("bench:")?.split(':');
        let (word, count) = (parts.next()?, parts.next()?.parse().ok()?);
        let number = parts.next()?.parse().ok()?;
        let work = match word {
            "text" => Work::Text,
            "hold" => Work::Hold(count),
            "bash" => Work::Bash(count),
            _ => return None,
        };
        Some(Self { work, number })
    }
}

#[derive(Deserialize)]
struct Request {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    text: Option<String>,
}

impl Message {
    fn order(&self) -> Option<Order> {
        if self.role != "user" {
            return None;
        }
        match &self.content {
            Content::Text(text) => Order::parse(text),
            Content::Blocks(blocks) => blocks
                .iter()
                .rev()
                .find_map(|b| Order::parse(b.text.as_deref()?)),
        }
    }
}

/// The latest order of a request, and how many answers it has had already.
pub(crate) fn read(body: &[u8]) -> Option<(Order, usize)> {
    let Request { messages } = serde_json::from_slice(body).ok()?;
    let (at, order) = messages
        .iter()
        .enumerate()
        .rev()
        .find_map(|(i, m)| Some((i, m.order()?)))?;
    let done = messages[at..]
        .iter()
        .filter(|m| m.role == "assistant")
        .count();
    Some((order, done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_latest_order_and_its_answers() {
        let order = Order {
            work: Work::Bash(2),
            number: 7,
        };
        let body = serde_json::json!({ "model": "m", "messages": [
            { "role": "user", "content": "bench:text:0:6" },
            { "role": "assistant", "content": "done" },
            { "role": "user", "content": [{ "type": "text", "text": order.to_string() }] },
            { "role": "assistant", "content": [{ "type": "tool_use" }] },
            { "role": "user", "content": [{ "type": "tool_result", "content": "x" }] },
        ]});
        assert_eq!(read(body.to_string().as_bytes()), Some((order, 1)));
        assert_eq!(
            read(br#"{"messages":[{"role":"user","content":"hello"}]}"#),
            None
        );
        assert_eq!(read(b"{"), None);
    }
}

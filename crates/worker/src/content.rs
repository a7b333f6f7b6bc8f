//! From what a sandbox answered to content blocks. The answer comes from a process that tools may
//! have taken over, so only blocks that carry their own bytes pass: a `file` or `url` source would
//! let it name another tenant's file, or have the model provider fetch an address.

use freehold_sandbox::ToolReply;
use freehold_wire::content::{ContentBlock, Source};

/// What a call came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// At least one block.
    pub content: Vec<ContentBlock>,
    /// Whether the tool failed.
    pub is_error: bool,
}

impl Reply {
    /// A failed call with a text for the model.
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            content: vec![ContentBlock::text(text)],
            is_error: true,
        }
    }
}

const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Checks a reply.
pub(crate) fn check(reply: &ToolReply) -> Reply {
    let mut content = Vec::with_capacity(reply.content.len());
    for raw in &reply.content {
        match serde_json::from_str::<ContentBlock>(raw.get()) {
            Ok(block) if passes(&block) => content.push(block),
            _ => return Reply::error("The tool gave a result that is not valid content."),
        }
    }
    if content.is_empty() {
        content.push(ContentBlock::text("(no output)"));
    }
    Reply {
        content,
        is_error: reply.is_error,
    }
}

fn passes(block: &ContentBlock) -> bool {
    match block {
        ContentBlock::Text(_) => true,
        ContentBlock::Image(image) => {
            matches!(&image.source, Source::Base64(s) if IMAGES.contains(&s.media_type.as_str()))
        }
        ContentBlock::Document(document) => match &document.source {
            Source::Base64(s) => s.media_type == "application/pdf",
            Source::Text(s) => s.media_type == "text/plain",
            Source::Url(_) | Source::File(_) => false,
        },
        ContentBlock::SearchResult(_) | ContentBlock::Redacted(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn reply(blocks: &[&str]) -> Reply {
        let content = blocks
            .iter()
            .map(|b| RawValue::from_string((*b).to_owned()).unwrap())
            .collect();
        check(&ToolReply {
            content,
            is_error: false,
        })
    }

    #[test]
    fn blocks_with_their_own_bytes_pass() {
        let good = reply(&[
            r#"{"type":"text","text":"hi"}"#,
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}"#,
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AA=="}}"#,
        ]);
        assert_eq!((good.content.len(), good.is_error), (3, false));
        assert_eq!(reply(&[]).content, [ContentBlock::text("(no output)")]);
    }

    #[test]
    fn blocks_that_point_elsewhere_do_not() {
        for bad in [
            r#"{"type":"document","source":{"type":"file","file_id":"file_1"}}"#,
            r#"{"type":"image","source":{"type":"url","url":"http://169.254.169.254/"}}"#,
            r#"{"type":"image","source":{"type":"base64","media_type":"image/svg+xml","data":""}}"#,
            r#"{"type":"document","source":{"type":"text","media_type":"text/html","data":""}}"#,
            r#"{"type":"redacted"}"#,
            r#"{"type":"tool_use","id":"x","name":"bash","input":{}}"#,
            r#"{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}"#,
            "[1]",
        ] {
            assert!(
                reply(&[r#"{"type":"text","text":"ok"}"#, bad]).is_error,
                "{bad}"
            );
        }
    }
}

//! A tool call and what it came to.

use freehold_base::RequestId;
use freehold_wire::content::ContentBlock;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A call.
#[derive(Debug, Clone)]
pub struct ToolCall {
    /// The server's own name of the tool.
    pub name: String,
    /// A JSON object, as the model wrote it.
    pub arguments: Box<RawValue>,
    /// That of the definition the call was judged by, which says what headers go with it. `None`: the
    /// server is asked where it matters.
    pub input_schema: Option<Map<String, Value>>,
    /// The same in our audit record and in a tunnel's.
    pub request_id: RequestId,
}

/// What the server answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutcome {
    /// At least one block.
    pub content: Vec<ContentBlock>,
    /// The tool says that it failed.
    pub is_error: bool,
    /// Bytes of the answer's bodies.
    pub received: u64,
}

//! What a model is told of the built-in tools: names, descriptions, input schemas. The schemas are
//! exactly those of contract 10, because the SDKs' own runners refuse unknown keys.

use freehold_wire::tool::BuiltinTool;

/// Description and input schema (JSON) of a built-in tool.
pub fn definition(tool: BuiltinTool) -> (&'static str, &'static str) {
    match tool {
        BuiltinTool::Bash => (
            "Runs a command in a persistent bash shell. The working directory, variables and \
             background jobs last between calls. Returns standard output and standard error \
             together; only the last 100 KiB of a long output is kept. The default timeout is \
             120000 ms; a command that exceeds it is killed with its shell. Set restart to true to \
             get a fresh shell.",
            r#"{"type":"object","properties":{"command":{"type":"string","description":"The command to run."},"restart":{"type":"boolean","description":"Restart the shell instead of running a command."},"timeout_ms":{"type":"integer","description":"Timeout in milliseconds."}},"additionalProperties":false}"#,
        ),
        BuiltinTool::Read => (
            "Reads a file. Text files are returned as they are; PNG, JPEG, GIF and WebP images and \
             PDF documents are returned for viewing. Text above 256 KiB needs view_range.",
            r#"{"type":"object","properties":{"file_path":{"type":"string","description":"Path, absolute or relative to the working directory."},"view_range":{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":2,"description":"First and last line, from 1, inclusive; a last line of 0 or less means the end of the file."}},"required":["file_path"],"additionalProperties":false}"#,
        ),
        BuiltinTool::Write => (
            "Writes a file, creating its parent folders and replacing what was there.",
            r#"{"type":"object","properties":{"file_path":{"type":"string","description":"Path, absolute or relative to the working directory."},"content":{"type":"string","description":"The whole content."}},"required":["file_path","content"],"additionalProperties":false}"#,
        ),
        BuiltinTool::Edit => (
            "Replaces text in a file. old_string must occur exactly once unless replace_all is \
             true.",
            r#"{"type":"object","properties":{"file_path":{"type":"string","description":"Path, absolute or relative to the working directory."},"old_string":{"type":"string","description":"The text to replace, exactly."},"new_string":{"type":"string","description":"The text to put in its place."},"replace_all":{"type":"boolean","description":"Replace every occurrence."}},"required":["file_path","old_string","new_string"],"additionalProperties":false}"#,
        ),
        BuiltinTool::Glob => (
            "Finds files by a glob pattern such as **/*.rs, newest first, at most 200.",
            r#"{"type":"object","properties":{"pattern":{"type":"string","description":"A relative glob pattern."},"path":{"type":"string","description":"The folder to search; the working directory if left out."}},"required":["pattern"],"additionalProperties":false}"#,
        ),
        BuiltinTool::Grep => (
            "Searches file contents for a regular expression, like ripgrep, with line numbers.",
            r#"{"type":"object","properties":{"pattern":{"type":"string","description":"A regular expression."},"path":{"type":"string","description":"The file or folder to search; the working directory if left out."}},"required":["pattern"],"additionalProperties":false}"#,
        ),
        BuiltinTool::WebFetch => (
            "Fetches a public web page or document and returns its text.",
            r#"{"type":"object","properties":{"url":{"type":"string","description":"An http or https URL."}},"required":["url"],"additionalProperties":false}"#,
        ),
        BuiltinTool::WebSearch => (
            "Searches the web and returns titles, addresses and extracts.",
            r#"{"type":"object","properties":{"query":{"type":"string","description":"What to search for."}},"required":["query"],"additionalProperties":false}"#,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_is_an_object_schema() {
        for tool in BuiltinTool::ALL {
            let schema: serde_json::Value = serde_json::from_str(definition(tool).1).unwrap();
            assert_eq!(schema["type"], "object", "{}", tool.name());
        }
    }
}

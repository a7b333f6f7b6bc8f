//! Answers as server-sent events of the Messages API.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Order, Work};

/// The whole answer to an order that has been answered `done` times already.
pub(super) fn write(order: &Order, done: usize) -> Bytes {
    let mut out = String::new();
    let usage = json!({ "input_tokens": 100, "output_tokens": 1 });
    let message = json!({
        "id": format!("msg_{}_{done}", order.number), "type": "message", "role": "assistant",
        "model": "bench", "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": usage,
    });
    put(&mut out, "message_start", json!({ "message": message }));
    let tools = match order.work {
        Work::Hold(count) if done == 0 => {
            (0..count).for_each(|i| tool(&mut out, order, i, i, "hold", "{}"));
            count
        }
        Work::Bash(count) if done < count => {
            tool(&mut out, order, 0, done, "bash", r#"{"command":"true"}"#);
            1
        }
        _ => 0,
    };
    if tools == 0 {
        text(&mut out);
    }
    let stop = if tools == 0 { "end_turn" } else { "tool_use" };
    let delta = json!({ "stop_reason": stop, "stop_sequence": null });
    let usage = json!({ "output_tokens": 10 + tools });
    put(
        &mut out,
        "message_delta",
        json!({ "delta": delta, "usage": usage }),
    );
    put(&mut out, "message_stop", json!({}));
    out.into()
}

fn text(out: &mut String) {
    let block = json!({ "type": "text", "text": "" });
    put(
        out,
        "content_block_start",
        json!({ "index": 0, "content_block": block }),
    );
    for piece in ["Done, ", "as ", "ordered."] {
        let delta = json!({ "type": "text_delta", "text": piece });
        put(
            out,
            "content_block_delta",
            json!({ "index": 0, "delta": delta }),
        );
    }
    put(out, "content_block_stop", json!({ "index": 0 }));
}

fn tool(out: &mut String, order: &Order, index: usize, call: usize, name: &str, input: &str) {
    let id = format!("toolu_{}_{call}", order.number);
    let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
    put(
        out,
        "content_block_start",
        json!({ "index": index, "content_block": block }),
    );
    let delta = json!({ "type": "input_json_delta", "partial_json": input });
    put(
        out,
        "content_block_delta",
        json!({ "index": index, "delta": delta }),
    );
    put(out, "content_block_stop", json!({ "index": index }));
}

fn put(out: &mut String, name: &str, mut data: Value) {
    data["type"] = name.into();
    out.push_str(&format!("event: {name}\ndata: {data}\n\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_get_their_calls_and_then_a_text() {
        let count = |work, done, what: &str| {
            let bytes = write(&Order { work, number: 1 }, done);
            std::str::from_utf8(&bytes).unwrap().matches(what).count()
        };
        assert_eq!(count(Work::Hold(3), 0, "\"name\":\"hold\""), 3);
        assert_eq!(count(Work::Hold(3), 1, "tool_use"), 0);
        assert_eq!(count(Work::Bash(2), 1, "\"name\":\"bash\""), 1);
        assert_eq!(count(Work::Bash(2), 2, "text_delta"), 3);
        assert_eq!(count(Work::Text, 0, "\"end_turn\""), 1);
    }
}

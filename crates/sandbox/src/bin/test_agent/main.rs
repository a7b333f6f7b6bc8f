//! The in-sandbox program of this crate's tests: tools that run commands, try to escape, and play
//! a compromised agent.

mod attempts;
mod exec;
mod host;
mod hostile;

use freehold_sandbox::agent::{self, AgentContext, Cancel, Handler, Reply};
use serde_json::value::RawValue;
use serde_json::{Value, json};

struct Tools(AgentContext);

impl Handler for Tools {
    fn call(&self, name: &str, input: &RawValue, cancel: &Cancel) -> Reply {
        let Ok(input) = serde_json::from_str::<Value>(input.get()) else {
            return Reply::error("input is not JSON");
        };
        match name {
            "echo" => text(input),
            "exec" => exec::run(&self.0, &input, cancel),
            "attempt" => text(attempts::run(
                self.0.fence,
                input["name"].as_str().unwrap_or_default(),
            )),
            "hostile" => hostile::run(&input),
            "panic" => panic!("as the test asked"),
            "blocks" => Reply {
                content: vec![json!({}); input["count"].as_u64().unwrap_or(0) as usize],
                is_error: false,
            },
            other => Reply::error(format!("no tool {other}")),
        }
    }
}

/// One text block holding JSON.
fn text(value: Value) -> Reply {
    Reply {
        content: vec![json!({"type": "text", "text": value.to_string()})],
        is_error: false,
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, dir, instance, marker] = args.as_slice()
        && mode == "host"
    {
        if let Err(e) = host::run(dir.into(), instance.clone(), marker) {
            eprintln!("{e}");
            std::process::exit(1)
        }
        return;
    }
    agent::main(|context| Box::new(Tools(context)))
}

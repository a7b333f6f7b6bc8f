//! Runs a command and reports everything about its end.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use freehold_sandbox::agent::{AgentContext, Cancel, Reply};
use serde_json::{Value, json};

/// Output kept of each stream, bytes.
const KEEP: u64 = 1 << 20;

pub fn run(context: &AgentContext, input: &Value, cancel: &Cancel) -> Reply {
    let argv: Vec<&str> = input["argv"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let Some((program, args)) = argv.split_first() else {
        return Reply::error("argv is empty");
    };
    let mut command = Command::new(program);
    context.fence.apply(&mut command);
    let spawned = command
        .args(args)
        .current_dir(&context.workspace)
        .env_clear()
        .envs(context.env.iter().map(|(k, v)| (k, v)))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => return Reply::error(format!("{program}: {e}")),
    };
    let group = rustix::process::Pid::from_child(&child);
    let _hook = cancel.on_cancel(move || {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    });
    if let (Some(mut stdin), Some(text)) = (child.stdin.take(), input["stdin"].as_str()) {
        let _ = stdin.write_all(text.as_bytes());
    }
    let err = child
        .stderr
        .take()
        .map(|s| std::thread::spawn(move || read(s)));
    let out = child.stdout.take().map(read).unwrap_or_default();
    let err = err.and_then(|t| t.join().ok()).unwrap_or_default();
    let status = child.wait();
    let status = status.as_ref().ok();
    crate::text(json!({
        "code": status.and_then(|s| s.code()),
        "signal": status.and_then(|s| s.signal()),
        "stdout": out,
        "stderr": err,
    }))
}

/// The first [`KEEP`] bytes; the rest is read and dropped.
fn read(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = from.by_ref().take(KEEP).read_to_end(&mut kept);
    let _ = std::io::copy(&mut from, &mut std::io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

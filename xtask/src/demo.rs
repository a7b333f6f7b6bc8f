//! `cargo xtask demo`: a real session on embedded defaults, with real tool calls in a real sandbox.

mod server;
mod tunnel;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run::{Steps, cargo, command};
use crate::{http, paths};
use server::{Folder, Server, serve};

pub use tunnel::run as tunnel;

/// What the agent is asked. Without a key there is no language model on a fresh machine, so this is
/// a script for the built-in rehearsal model (`docs/rehearsal.md`); the tool calls are real.
const PROMPT: &str = "\
Show what a session can do.
bash: echo \"$(id -un) on $(hostname), in $(pwd)\"
write: primes.py <<<
| primes = [n for n in range(2, 60) if all(n % d for d in range(2, n))]
| open('/mnt/session/outputs/primes.txt', 'w').write(' '.join(map(str, primes)) + '\\n')
| print(len(primes), 'primes below 60')
bash: python3 primes.py 2>/dev/null || (for n in $(seq 2 59); do p=1; for d in $(seq 2 $((n-1))); do [ $((n % d)) = 0 ] && p=0; done; [ $p = 1 ] && printf '%s ' $n; done | sed 's/ $//'; echo) > /mnt/session/outputs/primes.txt
read: /mnt/session/outputs/primes.txt
say: The primes below 60 are {result}";

/// What must stand in the output file.
const PRIMES: &str = "2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59\n";
/// Tool calls in [`PROMPT`].
const CALLS: usize = 4;
const OUTPUT: &str = "primes.txt";
/// Longest wait for a process to be ready, and for what follows from a session to be seen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demonstration.
///
/// # Errors
/// The build or the server failed, or the session did not end well.
pub fn run(exit: bool) -> Result<()> {
    let mut steps = Steps::new();
    steps.command("build", cargo().args(["build", "-p", "freehold"]))?;
    let folder = Folder::new(exit)?;
    let key = folder.key(&[])?;
    let mut server = Server::start(serve(&folder.path, exit)?, &key)?;
    let outcome = session(&server.url, &key);
    let stopped = server.stop();
    outcome?;
    stopped?;
    println!("\nThe session ended well, and so did the server.");
    if exit {
        return Ok(());
    }
    println!(
        "It starts again on the same data, {data}. Try it yourself:\n\n  \
         export FREEHOLD_URL={url} FREEHOLD_API_KEY={key}\n  \
         {freehold} run \"bash: uname -a\"\n  \
         {freehold} sessions list\n\nCtrl-C ends it.\n",
        url = server.url,
        data = folder.path.display(),
        freehold = paths::freehold()?.display(),
    );
    // In place of this program, so that signals reach the server itself.
    let error = serve(&folder.path, false)?.exec();
    Err(error).context("cannot start the server")
}

/// Runs the session for the eyes, then checks what it left behind.
fn session(url: &str, key: &str) -> Result<()> {
    println!("\n==> session: freehold run …\n");
    std::io::stdout().flush()?;
    let status = command(paths::freehold()?)
        .args(["run", "--keep", "--model", "rehearsal", PROMPT])
        .env("FREEHOLD_URL", url)
        .env("FREEHOLD_API_KEY", key)
        .status()
        .context("cannot start `freehold run`")?;
    ensure!(status.success(), "`freehold run` ended with {status}");
    let (id, events) = newest(url, key)?;
    check_events(&events)?;
    let (name, file) = output(url, key, &id)?;
    let content = http::get(url, &format!("/v1/files/{file}/content"), key)?;
    ensure!(
        content == PRIMES.as_bytes(),
        "{name} holds {:?}",
        String::from_utf8_lossy(&content)
    );
    println!(
        "\nsession {id}\noutput  {name} ({file}, {} bytes)",
        content.len()
    );
    Ok(())
}

/// The newest session, and its events.
fn newest(url: &str, key: &str) -> Result<(String, Vec<Value>)> {
    let listed = http::get_json(url, "/v1/sessions?limit=1", key)?;
    let id = listed["data"][0]["id"].as_str();
    let id = id.context("no session is listed")?;
    let path = format!("/v1/sessions/{id}/events?limit=1000");
    let events = http::get_json(url, &path, key)?;
    let events = events["data"].as_array().context("no events are listed")?;
    Ok((id.to_owned(), events.clone()))
}

/// The session made its calls, none failed, and it came to a regular end.
fn check_events(events: &[Value]) -> Result<()> {
    let last = events.last().context("the session has no events")?;
    ensure!(
        last["type"] == "session.status_idle" && last["stop_reason"]["type"] == "end_turn",
        "the session ended with {last}"
    );
    let results: Vec<&Value> = events
        .iter()
        .filter(|e| e["type"] == "agent.tool_result")
        .collect();
    ensure!(
        results.len() == CALLS,
        "{} tool results instead of {CALLS}",
        results.len()
    );
    if let Some(failed) = results.iter().find(|e| e["is_error"] == true) {
        bail!("a tool call failed: {failed}");
    }
    if let Some(error) = events.iter().find(|e| e["type"] == "session.error") {
        bail!("the session had an error: {error}");
    }
    Ok(())
}

/// Name and id of the output file; it is listed shortly after the turn has ended.
fn output(url: &str, key: &str, session: &str) -> Result<(String, String)> {
    let end = Instant::now() + PATIENCE;
    loop {
        let files = http::get_json(url, &format!("/v1/files?scope_id={session}"), key)?;
        let files = files["data"].as_array().cloned().unwrap_or_default();
        for file in &files {
            if let (Some(OUTPUT), Some(id)) = (file["filename"].as_str(), file["id"].as_str()) {
                return Ok((OUTPUT.to_owned(), id.to_owned()));
            }
        }
        ensure!(
            Instant::now() < end,
            "{OUTPUT} is not listed among the session's files: {files:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{CALLS, check_events};

    fn good() -> Vec<Value> {
        let mut events = vec![json!({"type": "user.message"})];
        events.extend((0..CALLS).map(|_| json!({"type": "agent.tool_result", "is_error": false})));
        events.push(json!({"type": "session.status_idle", "stop_reason": {"type": "end_turn"}}));
        events
    }

    #[test]
    fn only_a_good_end_is_good() {
        check_events(&good()).unwrap();
        check_events(&[]).unwrap_err();
        check_events(&good()[..CALLS + 1]).unwrap_err();
        let mut failed = good();
        failed[2]["is_error"] = json!(true);
        check_events(&failed).unwrap_err();
        let mut waits = good();
        waits[CALLS + 1]["stop_reason"]["type"] = json!("requires_action");
        check_events(&waits).unwrap_err();
        let mut fewer = good();
        fewer.remove(1);
        check_events(&fewer).unwrap_err();
        let mut error = good();
        error.insert(1, json!({"type": "session.error"}));
        check_events(&error).unwrap_err();
    }
}

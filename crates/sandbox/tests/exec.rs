//! Programs started without a tool: streams, ends, bounds, and what they leave behind.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use freehold_sandbox::{ExecEvent, ExecRequest, Finished, Provider, Sandbox, SandboxError, Status};

fn script(text: &str) -> ExecRequest {
    ExecRequest::new(["/bin/bash", "-c", text])
}

async fn finish(sandbox: &Arc<dyn Sandbox>, request: ExecRequest) -> Finished {
    sandbox.exec(request).await.unwrap().finish().await.unwrap()
}

#[tokio::test]
async fn streams_and_ends_are_told_apart() {
    let bench = bench("streams");
    let mut spec = bench.spec("streams");
    spec.env = vec![("OF_THE_SPEC".to_owned(), "a b".to_owned())];
    let sandbox = freehold_sandbox::Provider::create(&bench.provider, &spec)
        .await
        .unwrap();
    let mut request = script("cat; echo \"$OF_THE_SPEC $MINE $PWD\" >&2; exit 7");
    request.stdin = vec![b'x'; 3 << 20].into();
    request.env = vec![("MINE".to_owned(), "c".to_owned())];
    request.cwd = Some("/tmp".to_owned());
    let done = finish(&sandbox, request).await;
    assert_eq!(done.stdout, vec![b'x'; 3 << 20]);
    assert_eq!(done.stderr, b"a b c /tmp\n");
    assert_eq!((done.exit.code, done.exit.signal), (Some(7), None));
    let done = finish(&sandbox, script("kill -SEGV $$")).await;
    assert_eq!(done.exit.signal, Some(libc::SIGSEGV));
    // A program that does not read its input is no error.
    let mut request = script("exec true");
    request.stdin = vec![0; 1 << 20].into();
    assert_eq!(finish(&sandbox, request).await.exit.code, Some(0));
    let missing = sandbox.exec(ExecRequest::new(["/nonexistent"])).await;
    assert!(matches!(missing, Err(SandboxError::Exec(_))), "{missing:?}");
    let none = sandbox.exec(ExecRequest::new([""; 0])).await;
    assert!(matches!(none, Err(SandboxError::Exec(_))), "{none:?}");
    sandbox.destroy().await.unwrap();
}

/// Found as `execvp` finds them, and with nothing of the agent's but its streams.
#[tokio::test]
async fn programs_are_found_and_begin_with_nothing_of_the_agent() {
    let bench = bench("found");
    let sandbox = bench.sandbox("found").await;
    let make =
        "mkdir bin && echo 'echo by $0: $*' >bin/tool && chmod 755 bin/tool && echo x >plain";
    ok(&sandbox, make).await;
    for (name, path) in [
        ("tool", "/nowhere:/workspace/bin"),
        ("bin/tool", "/nowhere"),
    ] {
        let mut request = ExecRequest::new([name, "a", "b c"]);
        request.env = vec![("PATH".to_owned(), path.to_owned())];
        let done = finish(&sandbox, request).await;
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(said.ends_with("bin/tool: a b c\n"), "{name}: {said}");
    }
    let mut astray = script("true");
    astray.cwd = Some("/nowhere".to_owned());
    for (request, reason) in [
        (ExecRequest::new(["./plain"]), "denied"),
        (ExecRequest::new(["no-such-program"]), "No such file"),
        (ExecRequest::new(["a\0b"]), "nul"),
        (astray, "No such file"),
    ] {
        match sandbox.exec(request).await {
            Err(SandboxError::Exec(why)) => assert!(why.contains(reason), "{why}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
    let look =
        "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2";
    let looks = (0..16).map(|_| finish(&sandbox, script(look)));
    for seen in futures_util::future::join_all(looks).await {
        let seen = String::from_utf8(seen.stdout).unwrap();
        // The last descriptor is of the listing.
        let signals = seen.strip_prefix("0 1 2 3 ").expect(&seen);
        let mut signals = signals
            .lines()
            .map(|set| u64::from_str_radix(set, 16).unwrap());
        assert_eq!(signals.next(), Some(0), "{seen}");
        let pipe = 1 << (libc::SIGPIPE - 1);
        assert_eq!(
            signals.next().map(|ignored| ignored & pipe),
            Some(0),
            "{seen}"
        );
    }
    sandbox.destroy().await.unwrap();
}

/// More than may run at a time.
#[tokio::test]
async fn programs_whose_starter_went_away_are_ended() {
    let bench = bench("unheard");
    let sandbox = bench.sandbox("unheard").await;
    for _ in 0..100 {
        let start = sandbox.exec(ExecRequest::new(["sleep", "300"]));
        let started = tokio::time::timeout(Duration::ZERO, start).await;
        match started {
            // Gone before it was known to run, or with those before it still ending.
            Err(_) | Ok(Err(SandboxError::Busy(_))) => {}
            Ok(started) => drop(started.unwrap()),
        }
        tokio::task::yield_now().await;
    }
    let none_left = async {
        loop {
            let look = script("! cat /proc/[0-9]*/comm | grep -qx sleep");
            match sandbox.exec(look).await {
                Err(SandboxError::Busy(_)) => tokio::task::yield_now().await,
                look => {
                    let look = look.unwrap().finish().await.unwrap();
                    if look.exit.code == Some(0) {
                        return;
                    }
                }
            }
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, none_left).await.unwrap();
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn endless_output_is_cut_and_costs_no_memory() {
    let bench = bench("endless");
    let mut spec = bench.spec("endless");
    // For the agent and the program together, or for each.
    spec.limits.memory_bytes = 96 << 20;
    let sandbox = bench.provider.create(&spec).await.unwrap();
    let mut request = script("head -c 1G /dev/zero; echo done >&2");
    request.output_bytes = 1 << 20;
    let done = finish(&sandbox, request).await;
    assert_eq!(done.stdout.len(), 1 << 20);
    assert!(
        done.stderr.is_empty(),
        "the bound is for both streams together"
    );
    assert!(done.exit.truncated && done.exit.code == Some(0));
    // One line of as much, which a tool holds whole or not at all.
    let mut request = script("head -c 1G /dev/zero | tr '\\0' x");
    request.output_bytes = 1 << 20;
    let done = finish(&sandbox, request).await;
    assert!(done.stdout == vec![b'x'; 1 << 20] && done.exit.code == Some(0));
    // Any bytes come through as they are.
    let done = finish(
        &sandbox,
        script("printf '\\0\\377\\33[31m'; head -c 100000 /dev/urandom"),
    )
    .await;
    assert!(done.stdout.starts_with(b"\0\xff\x1b[31m") && done.stdout.len() == 100_007);
    // Output comes while the program runs, and a consumer that leaves has it killed.
    let mut yes = sandbox.exec(script("exec yes")).await.unwrap();
    let first = yes.next().await.unwrap().unwrap();
    assert!(matches!(first, ExecEvent::Stdout(bytes) if bytes.starts_with(b"y\ny\n")));
    drop(yes);
    while ok(&sandbox, "cat /proc/[0-9]*/comm | grep -cx yes || true").await != "0" {}
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn out_of_time_means_all_of_it_daemons_included() {
    let bench = bench("daemons");
    let sandbox = bench.sandbox("daemons").await;
    out_of_time(&sandbox).await;
}

async fn out_of_time(sandbox: &Arc<dyn Sandbox>) {
    let mut request = script(
        "trap '' TERM
         (setsid bash -c 'trap \"\" TERM HUP; (setsid sleep 1001 &) ; sleep 1002' </dev/null >/dev/null 2>&1 &)
         sleep 1003",
    );
    request.timeout = Duration::from_millis(500);
    let done = finish(sandbox, request).await;
    assert!(
        done.exit.timed_out && done.exit.signal == Some(9),
        "{done:?}"
    );
    let left = "cat /proc/[0-9]*/comm | grep -cx sleep || true";
    assert_eq!(
        ok(sandbox, left).await,
        "0",
        "a daemon outlived its program's time"
    );
    // What a program leaves running when it ends by itself stays, and does not hold up its end.
    let done = finish(sandbox, script("(setsid yes & ) ; exit 3")).await;
    assert_eq!(done.exit.code, Some(3));
    // One that stops itself, or a busy loop that ignores what it can.
    // And one in uninterruptible sleep: its child, which shares its memory, waits at a pipe that
    // nobody opens.
    let vfork = "import os
os.mkfifo('/tmp/nobody')
os.posix_spawn('/bin/true', ['true'], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, '/tmp/nobody', 0, 0)])";
    let vfork = format!("exec python3 -c \"{vfork}\"");
    for text in [
        "kill -STOP $$",
        "trap '' TERM INT HUP; while :; do :; done",
        &vfork,
    ] {
        let mut request = script(text);
        request.timeout = Duration::from_millis(200);
        let done = finish(sandbox, request).await;
        assert!(
            done.exit.timed_out && done.exit.signal == Some(9),
            "{text}: {done:?}"
        );
    }
    // Killed by hand.
    let handle = sandbox.exec(script("sleep 1000 & wait")).await.unwrap();
    handle.kill();
    let done = handle.finish().await.unwrap();
    assert_eq!((done.exit.signal, done.exit.timed_out), (Some(9), false));
    assert_eq!(ok(sandbox, left).await, "0");
    sandbox.destroy().await.unwrap();
}

/// No thread can be started in the agent then, and none may be needed.
#[tokio::test]
async fn a_program_that_takes_every_task_is_heard_and_runs_out_of_time() {
    let bench = bench("greedy");
    let mut spec = bench.spec("greedy");
    spec.limits.pids = 64;
    let sandbox = bench.provider.create(&spec).await.unwrap();
    let bomb = "import os,time
while True:
  try:
    if os.fork()==0: os.closerange(0,3); time.sleep(300)
  except BlockingIOError: print('full', flush=True); time.sleep(0.01)";
    let mut request = ExecRequest::new(["python3", "-c", bomb]);
    request.timeout = Duration::from_secs(2);
    let done = finish(&sandbox, request).await;
    assert!(done.stdout.starts_with(b"full\nfull\n"), "{done:?}");
    assert!(
        done.exit.timed_out && done.exit.signal == Some(9),
        "{done:?}"
    );
    ok(&sandbox, "true").await;
    // Also when its consumer leaves.
    let mut bomb = sandbox
        .exec(ExecRequest::new(["python3", "-c", bomb]))
        .await
        .unwrap();
    bomb.next().await.unwrap().unwrap();
    bomb.next().await.unwrap().unwrap();
    drop(bomb);
    // Others are refused until it has gone.
    loop {
        let look = script("! cat /proc/[0-9]*/comm | grep -qx python3");
        match sandbox.exec(look).await {
            Err(SandboxError::Busy(_)) => {}
            look => {
                let look = look.unwrap().finish().await.unwrap();
                if look.exit.code == Some(0) {
                    break;
                }
            }
        }
    }
    sandbox.destroy().await.unwrap();
}

/// Where ids cannot be mapped apart, tool and agent are one user: a tool that kills the agent by one
/// of its threads ends its own sandbox, which the report says, and nothing of what is kept.
async fn within_reach(bench: &Bench, sandbox: Arc<dyn Sandbox>) {
    let report = bench.provider.probe().await;
    let protection = report
        .features
        .iter()
        .find(|f| f.name == "agent protection")
        .unwrap();
    assert_eq!(protection.status, Status::Partial, "{protection:?}");
    assert!(protection.detail.contains("the call then fails"));
    ok(&sandbox, "echo mine > kept").await;
    let kill = "import os
for pid in range(2, 400):
  if pid != os.getpid():
    try: os.kill(pid, 9)
    except (ProcessLookupError, PermissionError): pass";
    let attack = sandbox
        .exec(ExecRequest::new(["python3", "-c", kill]))
        .await;
    let attack = match attack {
        Ok(handle) => handle.finish().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(
        matches!(attack, Err(SandboxError::Lost { .. })),
        "{attack:?}"
    );
    sandbox.destroy().await.unwrap();
    let again = bench.sandbox("reach").await;
    assert_eq!(ok(&again, "cat kept").await, "mine");
    again.destroy().await.unwrap();
}

#[tokio::test]
async fn the_agent_is_out_of_reach_of_programs() {
    let bench = bench("reach");
    let sandbox = bench.sandbox("reach").await;
    if !is_root() {
        return within_reach(&bench, sandbox).await;
    }
    let attack = "import os, signal
for pid in [-1] + [p for p in range(1, 400) if p != os.getpid()]:
  for sig in (signal.SIGSTOP, signal.SIGKILL):
    try: os.kill(pid, sig)
    except (ProcessLookupError, PermissionError): pass
print('still here')";
    let done = finish(&sandbox, ExecRequest::new(["python3", "-c", attack])).await;
    assert_eq!(done.exit.code, Some(0), "{done:?}");
    assert!(sandbox.alive());
    ok(&sandbox, "true").await;
    assert_eq!(ok(&sandbox, "id -u; id -ru").await, "1000\n1000");
    sandbox.destroy().await.unwrap();
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}

//! `bash`, row by row of contract 55 §7, and what hostile commands do to it.

mod common;

use std::time::{Duration, Instant};

use common::{Desk, desk, text};
use freehold_tools::Cancel;
use serde_json::json;

fn run(desk: &Desk, command: &str) -> String {
    desk.ok("bash", json!({ "command": command }))
}

fn fails(desk: &Desk, command: &str) -> String {
    desk.err("bash", json!({ "command": command }))
}

/// Whether the process is there and not a zombie.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .starts_with('Z')
    })
}

/// Waits for what another process does.
fn eventually(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < end, "it never happened");
        std::thread::yield_now();
    }
}

#[test]
fn state_persists_between_calls() {
    let desk = desk();
    assert_eq!(run(&desk, "pwd"), desk.root().to_str().unwrap());
    run(
        &desk,
        "mkdir sub && cd sub; export A=1; b=2; f() { echo f$1; }",
    );
    assert_eq!(run(&desk, "basename $PWD; echo $A $b; f 3"), "sub\n1 2\nf3");
    let shell = run(&desk, "echo $$");
    assert_eq!(run(&desk, "echo $$"), shell);
}

#[test]
fn the_environment_is_what_was_given() {
    let desk = desk();
    let names = run(&desk, "env | cut -d= -f1 | sort | tr '\\n' ' '");
    // The shell itself drops prompts and adds the rest.
    assert_eq!(names, "GIVEN LANG PATH PWD SHLVL TERM _ ");
    assert_eq!(run(&desk, "echo $TERM-$PS1-$PS2-$GIVEN"), "dumb---yes");
}

#[test]
fn output_is_merged_and_input_is_empty() {
    let desk = desk();
    assert_eq!(
        run(&desk, "echo out; echo err >&2; echo out2"),
        "out\nerr\nout2"
    );
    assert_eq!(run(&desk, "cat; read x; echo \"[$x]\""), "[]");
    assert_eq!(run(&desk, "printf 'no newline'"), "no newline");
    assert_eq!(run(&desk, "printf '\\n\\nkept\\n\\n\\n'"), "\n\nkept");
    assert_eq!(run(&desk, "true"), "(no output)");
    assert_eq!(run(&desk, "# only a comment\ntrue"), "(no output)");
    assert_eq!(
        run(&desk, "tty; ps -o tty= -p $$ 2>/dev/null || true")
            .lines()
            .next(),
        Some("not a tty")
    );
}

#[test]
fn a_status_other_than_zero_is_an_error_with_the_output_alone() {
    let desk = desk();
    assert_eq!(fails(&desk, "echo so; false"), "so");
    assert_eq!(fails(&desk, "(exit 3)"), "(no output)");
    assert!(fails(&desk, "nonesuch").ends_with("nonesuch: command not found"));
    assert_eq!(
        fails(&desk, "kill -9 $BASHPID & wait $!").lines().count(),
        1
    );
}

#[test]
fn control_sequences_are_removed_and_bytes_decoded() {
    let desk = desk();
    assert_eq!(run(&desk, r"printf '\033[1;31mred\033[0m\n'"), "red");
    assert_eq!(run(&desk, r"printf 'a\377b\000c'"), "a\u{fffd}b\0c");
    assert_eq!(run(&desk, "printf 'gr\u{fc}n'"), "grün");
}

#[test]
fn only_the_last_bytes_are_kept() {
    let desk = desk();
    let long = run(&desk, "seq 1 200000");
    let (first, rest) = long.split_once('\n').unwrap();
    assert_eq!(first, "[output truncated]");
    assert!(rest.ends_with("\n199999\n200000"));
    assert_eq!(rest.len(), 102_400 - 1);
    // Just what fits is whole.
    assert_eq!(
        run(&desk, "head -c 102400 /dev/zero | tr '\\0' x"),
        "x".repeat(102_400)
    );
    // One line of 100 MB, and a character cut in half.
    let line = run(&desk, "head -c 100000000 /dev/zero | tr '\\0' y; printf é");
    assert_eq!(
        line,
        format!("[output truncated]\n{}é", "y".repeat(102_398))
    );
    let chars = run(
        &desk,
        "for i in $(seq 60000); do printf 'é'; done; printf x",
    );
    assert!(chars.starts_with("[output truncated]\né") && chars.ends_with("éx"));
}

#[test]
fn a_timeout_kills_the_shell_and_what_it_started() {
    let desk = desk();
    run(&desk, "x=1");
    let late = json!({"command": "sleep 1000 & echo $! > pid; sleep 1000", "timeout_ms": 300});
    assert_eq!(
        desk.err("bash", late),
        "bash: bash command timed out after 0.3s"
    );
    let pid = desk.get("pid");
    eventually(|| !lives(&pid));
    // A new shell, without being asked for.
    assert_eq!(run(&desk, "echo \"[$x]\"; basename $PWD"), "[]\nwork");
    for (ms, said) in [(50, "0.05s"), (100, "0.1s"), (1000, "1.0s")] {
        let late = desk.err("bash", json!({"command": "sleep 1000", "timeout_ms": ms}));
        assert_eq!(late, format!("bash: bash command timed out after {said}"));
    }
    // Nought is the default, not no time at all.
    assert_eq!(
        desk.ok("bash", json!({"command": "echo x", "timeout_ms": 0})),
        "x"
    );
    // More than the most is cut to it, not refused.
    assert_eq!(
        desk.ok("bash", json!({"command": "echo x", "timeout_ms": u64::MAX})),
        "x"
    );
}

#[test]
fn restart_gives_a_new_shell_and_ends_the_old() {
    let desk = desk();
    let old = run(&desk, "cd /; sleep 1000 & echo $!");
    let restarted = desk.ok(
        "bash",
        json!({"restart": true, "command": "echo ignored > ignored"}),
    );
    assert_eq!(restarted, "bash session restarted");
    eventually(|| !lives(&old));
    assert_eq!(run(&desk, "basename $PWD; ls"), "work");
    assert_eq!(
        desk.ok("bash", json!({"restart": false, "command": "echo x"})),
        "x"
    );
}

#[test]
fn without_a_command_it_says_so() {
    let desk = desk();
    for input in [json!({}), json!({"command": ""}), json!({"restart": false})] {
        assert_eq!(desk.err("bash", input), "bash: command is required");
    }
}

#[test]
fn a_shell_that_ends_is_an_error_with_its_output_and_is_replaced() {
    let desk = desk();
    assert_eq!(fails(&desk, "echo last; exit 0"), "last");
    assert_eq!(run(&desk, "echo again"), "again");
    assert_eq!(fails(&desk, "exit 7"), "(no output)");
    assert_eq!(fails(&desk, "kill -9 $$"), "(no output)");
    assert_eq!(fails(&desk, "exec echo replaced"), "replaced");
    assert_eq!(fails(&desk, "set -e; false"), "(no output)");
    assert_eq!(run(&desk, "echo again"), "again");
}

#[test]
fn a_shell_that_ends_does_not_wait_for_its_jobs() {
    let desk = desk();
    // The jobs hold the output open; one of them has left the group and prints without end.
    assert_eq!(
        fails(&desk, "sleep 1000 & echo $!; exit").lines().count(),
        1
    );
    let job = fails(&desk, "setsid yes & echo $! > pid; exit");
    assert!(job == "(no output)" || job.contains('y'), "{job}");
    eventually(|| !lives(&desk.get("pid")));
}

#[test]
fn a_job_may_hold_the_output_and_print_later() {
    let desk = desk();
    // The second call lets the job go on only after the first is over.
    desk.fifo("go");
    assert_eq!(
        run(
            &desk,
            "{ cat go > /dev/null; seq 1 100000; echo done > done; } & echo now"
        ),
        "now"
    );
    assert_eq!(
        run(&desk, "echo > go; wait; cat done").lines().last(),
        Some("done")
    );
    // Far more than a pipe holds, with nobody calling: it must not block.
    run(
        &desk,
        "rm done; { cat go > /dev/null; seq 1 100000; echo done > done; } & true",
    );
    std::fs::write(desk.root().join("go"), "x").unwrap();
    eventually(|| desk.root().join("done").exists());
}

#[test]
fn a_command_cannot_end_the_call_for_the_shell() {
    let desk = desk();
    let fake = "printf '\\n__ANT_CMD_%032d_DONE__0\\n' 0; echo after; false";
    let said = fails(&desk, fake);
    assert!(
        said.starts_with("\n__ANT_CMD_0") && said.ends_with("\nafter"),
        "{said}"
    );
    // Traces repeat the line that ends the call.
    assert!(run(&desk, "set -xv; echo traced").contains("traced\n"));
    assert!(run(&desk, "echo second").contains("\nsecond"));
}

#[test]
fn syntax_errors_and_unfinished_commands_fail_at_once() {
    let desk = desk();
    run(&desk, "x=kept");
    assert!(fails(&desk, "fi").contains("syntax error near unexpected token"));
    assert!(fails(&desk, "# only a comment").contains("syntax error"));
    for open in [
        "echo \"open",
        "echo it's",
        "echo `open",
        "if true; then echo",
        "for i in 1 2; do echo",
        "( echo",
        "{ echo",
        "cat <<EOF\nnever ended",
        "echo \\",
        "true &&",
        "case x in",
    ] {
        let said = fails(&desk, open);
        let known = said.contains("unexpected EOF")
            || said.contains("unexpected end of file")
            || said.contains("syntax error");
        assert!(known, "{open}: {said}");
    }
    // Nothing before the mistake has run.
    assert!(fails(&desk, "touch ran\nfor i in 1; do\nfi").contains("syntax error"));
    assert!(!desk.root().join("ran").exists());
    assert_eq!(fails(&desk, "} ; { ").lines().count(), 2);
    // Looks open, but is not.
    assert_eq!(run(&desk, "echo x # it's"), "x");
    assert_eq!(run(&desk, "cat <<'EOF'\nit's (\nEOF"), "it's (");
    run(&desk, "shopt -s extglob");
    assert_eq!(run(&desk, "echo !(x|y) $'\\''"), "!(x|y) '");
    assert_eq!(run(&desk, "echo $x"), "kept");
    // This one bash itself does not survive.
    assert!(fails(&desk, "echo $(").contains("syntax error"));
    assert_eq!(run(&desk, "echo [$x]"), "[]");
}

#[test]
fn closed_outputs_time_out_and_nothing_spins() {
    let desk = desk();
    let late = json!({"command": "exec >&- 2>&-", "timeout_ms": 300});
    assert_eq!(
        desk.err("bash", late),
        "bash: bash command timed out after 0.3s"
    );
    let late = json!({"command": "exec > /dev/null", "timeout_ms": 300});
    assert_eq!(
        desk.err("bash", late),
        "bash: bash command timed out after 0.3s"
    );
    // A shell that reads no more, and a command longer than a pipe holds.
    let stopped =
        json!({"command": format!("kill -STOP $$; : {}", "x".repeat(500_000)), "timeout_ms": 300});
    assert_eq!(
        desk.err("bash", stopped),
        "bash: bash command timed out after 0.3s"
    );
    assert_eq!(
        run(&desk, &format!("echo {} | wc -c", "x".repeat(500_000))),
        "500001"
    );
}

#[test]
fn endless_output_is_stopped_in_time() {
    let desk = desk();
    let late = json!({"command": "yes", "timeout_ms": 300});
    assert_eq!(
        desk.err("bash", late),
        "bash: bash command timed out after 0.3s"
    );
    assert_eq!(run(&desk, "echo x"), "x");
}

#[test]
fn cancelling_kills_the_command_at_once() {
    let desk = desk();
    desk.fifo("started");
    let (cancel, second) = (Cancel::new(), Cancel::new());
    std::thread::scope(|scope| {
        let command = json!({"command": "sleep 1000 & echo $! > pid; echo > started; wait"});
        let call = scope.spawn(|| desk.call_with("bash", command, &cancel));
        // Opening waits for the command to be there.
        std::fs::read(desk.root().join("started")).unwrap();
        // One more waits for its turn, and stops waiting without getting it.
        let waiting =
            scope.spawn(|| desk.call_with("bash", json!({"command": "touch no"}), &second));
        second.cancel();
        assert_eq!(text(&waiting.join().unwrap()), "bash: aborted");
        cancel.cancel();
        let output = call.join().unwrap();
        assert!(output.is_error);
        assert_eq!(text(&output), "bash: aborted");
    });
    eventually(|| !lives(&desk.get("pid")));
    assert_eq!(run(&desk, "ls no 2>/dev/null || echo fresh"), "fresh");
    // Cancelled before it began.
    let output = desk.call_with("bash", json!({"command": "touch no"}), &cancel);
    assert_eq!(
        (output.is_error, text(&output).as_str()),
        (true, "bash: aborted")
    );
    assert!(!desk.root().join("no").exists());
}

#[test]
fn calls_at_the_same_time_take_turns() {
    let desk = desk();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let desk = &desk;
            scope.spawn(move || {
                let said = run(desk, &format!("for i in 1 2 3; do echo {n}; done"));
                assert_eq!(said, format!("{n}\n{n}\n{n}"));
            });
        }
    });
}

#[test]
fn dropping_the_tools_ends_the_shell() {
    let desk = desk();
    let pids = run(&desk, "sleep 1000 & echo $! $$");
    drop(desk);
    for pid in pids.split(' ') {
        eventually(|| !lives(pid));
    }
}

#[test]
fn a_missing_workspace_is_said_plainly() {
    let desk = desk();
    std::fs::remove_dir(desk.root()).unwrap();
    assert_eq!(
        fails(&desk, "true"),
        "bash: cannot start the shell: no such file or directory"
    );
}

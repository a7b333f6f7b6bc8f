//! Escape attempts by bare system call (design/60 §6), each with the answer it must get; and where
//! the whole checklist is tested. Every program named here runs itself once more as an ordinary user.
//! What takes root (a disk of its own, control groups, a user for the agent) is held against the
//! report then: what it says is missing is what the attempt finds. `table` is `common/attacks.rs`.
//!
//! | # | Attempt | Test |
//! |---|---|---|
//! | 1 | fork bomb | `limits::a_fork_bomb_hits_the_limit_and_the_sandbox_can_be_ended`, `exec::a_program_that_takes_every_task_is_heard_and_runs_out_of_time` |
//! | 2 | memory bomb | `limits::a_memory_bomb_is_killed_inside`, `without_groups_memory_is_limited_for_each_process_and_said_so` |
//! | 3 | filling `/tmp`, `/dev/shm` | `limits::temporary_space_and_file_size_are_bounded` |
//! | 4, 5 | filling the disk, with bytes or files | `disk::bytes_and_files_are_limited_together`, `where_nothing_limits_the_disk_that_is_said` |
//! | 6 | spinning on all processors | `limits::cpu_time_is_shared_out`, `exec::out_of_time_means_all_of_it_daemons_included` |
//! | 7 | endless, binary, one-line output | `exec::endless_output_is_cut_and_costs_no_memory` |
//! | 8 | daemons | `exec::out_of_time_means_all_of_it_daemons_included`, `limits::endless_output_zombies_and_daemons_end_with_the_sandbox` |
//! | 9 | zombies | `limits::endless_output_zombies_and_daemons_end_with_the_sandbox` |
//! | 10 | ignoring signals, stopping itself, uninterruptible sleep | `exec::out_of_time_means_all_of_it_daemons_included` |
//! | 11–13 | mounts, namespaces, `setns` | table |
//! | 14 | device nodes | table, `visible::nothing_of_the_host_can_be_written` |
//! | 15 | `ptrace`, memory and descriptors of others | table |
//! | 16 | `/proc` of the agent and the server | `visible::no_secret_descriptor_or_environment_comes_along`, `escape::every_attempt_gets_its_answer`; with real credentials `freehold`'s `worker::searching` |
//! | 17 | `core_pattern`, `sysrq`, `vm.*`, `uevent_helper`, `oom_score_adj`, `uid_map` | `visible::nothing_of_the_host_can_be_written` |
//! | 18 | core dumps | `visible::no_privilege_is_left_or_can_be_regained`, table |
//! | 19 | writing to the agent's program | table |
//! | 20 | descriptors left open | `visible::no_secret_descriptor_or_environment_comes_along` |
//! | 21–27 | keyrings, `bpf` and the like, modules and clocks, file handles, odd sockets, vsock, netlink | table |
//! | 28 | metadata addresses and names | `visible::host_services_are_out_of_reach`, `egress_transparent::literal_addresses_arrive_and_are_refused` |
//! | 29 | services of the host's loopback | `visible::host_services_are_out_of_reach` |
//! | 30 | tunnels through DNS | `egress_transparent::names_are_answered_without_asking_anybody`, `nothing_but_tcp_gets_anywhere` |
//! | 31 | names that lead inwards, redirects | `egress_transparent::a_name_that_resolves_inward_is_refused`, `a_redirect_is_a_connection_like_any_other` |
//! | 32 | saying another host, smuggled requests | `egress_transparent::tls_may_name_no_other_host`, `http_may_name_no_other_host` |
//! | 33 | a placeholder sent elsewhere | `egress_credentials::headers_carry_the_value_to_its_own_host_only`, `the_value_is_nowhere_inside` |
//! | 34 | sockets of the host | `visible::host_services_are_out_of_reach`, `only_the_system_and_its_own_directories_exist` |
//! | 35 | `TIOCSTI`, `TIOCLINUX`, `TIOCSETD` | table |
//! | 36 | set-user-id programs | `visible::no_privilege_is_left_or_can_be_regained` |
//! | 37 | ids, limits, priorities, locked memory | table |
//! | 38 | signals | `escape::every_attempt_gets_its_answer`, `exec::the_agent_is_out_of_reach_of_programs` |
//! | 39 | 32-bit and x32 calls | table |
//! | 40 | links and `..` for the file tools, races | `files::no_race_leads_out_of_a_folder`, `what_is_no_file_or_elsewhere_is_refused_without_waiting`; `freehold-tools`' `races` |
//! | 41 | pipes, sockets, sparse and deep files for them | `files::what_is_no_file_or_elsewhere_is_refused_without_waiting`, `listings_are_bounded_and_only_of_files` |
//! | 42 | hooks and profiles that wait for the server | `files::nothing_kept_is_ever_run_outside` |
//! | 43 | poisoned snapshots | `snapshot::hostile_archives_are_refused_and_leave_nothing` |
//! | 44 | host paths and names | `visible::no_secret_descriptor_or_environment_comes_along`, `only_the_system_and_its_own_directories_exist` |
//! | 45 | an agent gone bad | `lifecycle::a_broken_agent_is_cut_off`, `a_frozen_agent_is_cut_off_when_the_call_is_cancelled` |
//! | 46 | another session | `visible::two_sandboxes_see_nothing_of_each_other`, `what_others_run_is_not_seen` |
//! | 47 | leaks over many creations | `leak::five_hundred_creations_leave_nothing` |

mod common;

use common::attacks::{agent_protected, check_hidden, check_signals, check_table};
use common::*;
use freehold_sandbox::SandboxError;
use serde_json::{Value, json};

#[tokio::test]
async fn every_attempt_gets_its_answer() {
    let bench = bench("escape");
    let sandbox = bench.sandbox("escape").await;
    check_table(&sandbox).await;
    check_hidden(&sandbox).await;
    check_signals(&sandbox, agent_protected(&bench.provider).await).await;
    sandbox.destroy().await.unwrap();
}

/// The table above would prove nothing if the attempts could not succeed: outside the sandbox,
/// under the process provider, several of them do.
#[tokio::test]
async fn without_isolation_the_attempts_succeed() {
    use freehold_sandbox::{Isolation, ProcessConfig, ProcessProvider, Provider};
    let bench = bench("unconfined");
    let provider = ProcessProvider::new(ProcessConfig {
        launcher: launcher(),
        path: "/usr/bin:/bin".to_owned(),
        probe_dir: bench.dir.path().to_owned(),
    });
    let mut spec = bench.spec("plain");
    spec.min_isolation = Isolation::None;
    let sandbox = provider.create(&spec).await.unwrap();
    let mut names = vec![
        "control pty",
        "personality",
        "ptrace traceme",
        "unshare user",
    ];
    if is_root() {
        names.extend([
            "unshare mount",
            "clone pid",
            "socket raw",
            "chroot",
            "fsopen",
        ]);
    }
    for name in names {
        let got: Value = call(&sandbox, "attempt", json!({ "name": name })).await;
        assert_eq!(got["errno"].as_i64(), Some(0), "{name}: {got}");
    }
    assert_eq!(provider.probe().await.isolation, Isolation::None);
    // What would reach beyond the agent's own processes is refused.
    let paused = sandbox.pause().await;
    assert!(
        matches!(paused, Err(SandboxError::Unsupported { .. })),
        "{paused:?}"
    );
    let kept = sandbox.snapshot(bench.dir.path()).await;
    assert!(
        matches!(kept, Err(SandboxError::Unsupported { .. })),
        "{kept:?}"
    );
    spec.min_isolation = Isolation::Namespaces;
    assert!(provider.create(&spec).await.is_err());
    sandbox.destroy().await.unwrap();
}

/// The table at the top names every line of the checklist, and tests that exist.
#[test]
fn the_checklist_is_tested_by_tests_that_exist() {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let read = |file: &str| std::fs::read_to_string(tests.join(file)).unwrap();
    let table = read("escape.rs");
    let rows = table.lines().filter_map(|line| line.strip_prefix("//! | "));
    let (mut covered, mut named) = (0, 0);
    for row in rows.filter(|row| row.starts_with(|c: char| c.is_ascii_digit())) {
        let cells: Vec<_> = row.split(" | ").collect();
        let range = cells[0].replace(", ", "–");
        let mut ends = range.split('–').map(|n| n.parse::<u32>().unwrap());
        let first = ends.next().unwrap();
        assert_eq!(first, covered + 1, "{row}");
        covered = ends.next().unwrap_or(first);
        let mut file = String::new();
        // A name without its program is of the one named before it.
        for name in cells[2].split('`').skip(1).step_by(2) {
            let name = name.rsplit_once("::").map_or(name, |(program, name)| {
                file = format!("{program}.rs");
                name
            });
            if file.is_empty() || !tests.join(&file).exists() || !name.contains('_') {
                continue;
            }
            named += 1;
            assert!(
                read(&file).contains(&format!("fn {name}(")),
                "{row}: {name}"
            );
        }
    }
    assert_eq!(covered, 47);
    assert!(named > 35, "{named}");
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}

//! Ordinary work succeeds: the positive control of every denial.

mod common;

use common::*;

#[tokio::test]
async fn the_usual_programs_run() {
    let bench = bench("work");
    let sandbox = bench.sandbox("work").await;
    let programs = [
        ("/bin/bash", "echo $((6*7))", "42"),
        (
            "/usr/bin/python3",
            "python3 -c 'import subprocess,threading,ssl,sqlite3; print(subprocess.check_output([\"echo\",\"42\"]).decode())'",
            "42",
        ),
        (
            "/usr/bin/node",
            "node -e 'setTimeout(()=>console.log(require(\"os\").hostname().length*6),5)'",
            "42",
        ),
        (
            "/usr/local/bin/git",
            "cd $(mktemp -d) && git init -q . && git config user.email a@b && git config user.name a && echo x>f && git add f && git commit -qm m && git log --oneline | wc -l",
            "1",
        ),
        (
            "/usr/bin/gcc",
            "cd /tmp && printf '#include <stdio.h>\nint main(){puts(\"42\");}' > a.c && gcc a.c -o a && ./a",
            "42",
        ),
    ];
    for (needs, script, expected) in programs {
        if !std::path::Path::new(needs).exists() {
            not_run(&format!("{needs} is not installed here"));
            continue;
        }
        assert_eq!(ok(&sandbox, script).await, expected, "{script}");
    }
    assert_eq!(
        ok(&sandbox, "id -un; pwd; echo $HOME; umask; cd; pwd").await,
        "agent\n/workspace\n/home/agent\n0022\n/home/agent"
    );
    ok(&sandbox, "echo x > /workspace/a; echo x > /mnt/session/outputs/a; echo x > /tmp/a; echo x > ~/a; echo x > /dev/shm/a; echo x > /dev/null").await;
    // Links and renames between directories, which careless confinement breaks.
    ok(&sandbox, "mkdir a1 a2 && echo x > a1/f && ln a1/f a2/g && mv a1/f a2/f && mv a1 a2/ && test a2/f -ef a2/g").await;
    ok(
        &sandbox,
        "python3 -c 'import os; os.rename(\"a2/f\", \"f\"); os.link(\"f\", \"a2/h\")'",
    )
    .await;
    sandbox.destroy().await.unwrap();
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}

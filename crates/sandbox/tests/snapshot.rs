//! Snapshots: everything that is kept comes back elsewhere, and what is not one is refused.

mod common;

use std::io::Write;
use std::path::Path;

use common::*;
use freehold_sandbox::{Access, Provider, SandboxError, Share, Snapshot};
use sha2::{Digest, Sha256};

const FILL: &str = r#"
cd /workspace
mkdir -p deep/er 'od d' locked
echo one > deep/er/file; chmod 600 deep/er/file; touch -d @1000000000 deep/er/file
printf '\0\1\377' > 'od d/bin'; echo x > "$(printf 'not\377utf8')"
ln deep/er/file hard; ln -s /etc/passwd out; ln -s missing broken
mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
cp /bin/true program; chmod 4755 program
echo secret > unreadable; chmod 000 unreadable; echo in > locked/in; chmod 500 locked
truncate -s 5M sparse
long=$(printf 'n%.0s' $(seq 200)); mkdir -p $long/$long; echo long > $long/$long/f
echo home > ~/kept; echo result > /mnt/session/outputs/r; echo gone > /tmp/gone
echo remembered > /mnt/memory/notes/a.md
(while :; do echo tick >> ticks; done) </dev/null >/dev/null 2>&1 &
until test -s ticks; do :; done
"#;

const LOOK: &str = r#"
cd /workspace
stat -c '%a %Y %n %h' deep/er/file hard
od -An -tx1 'od d/bin'; cat "$(printf 'not\377utf8')"; readlink out broken
ls -d pipe sock 2>&1 | sed 's/.*: //'
stat -c %a program unreadable locked; stat -c %s sparse
chmod 600 unreadable; cat unreadable locked/in n*/n*/f ~/kept /mnt/session/outputs/r
cat /mnt/memory/notes/a.md; ls /tmp; test -s ticks && echo ticked
"#;

fn notes() -> Share {
    Share {
        folder: "memory-notes".to_owned(),
        at: "/mnt/memory/notes".to_owned(),
        access: Access::ReadWrite,
    }
}

async fn there_and_back(from: Bench, to: Bench, ordinary: bool) {
    let store = tempfile::tempdir().unwrap();
    let mut spec = from.spec("origin");
    spec.shares.push(notes());
    let make = |dir: &Path| {
        if ordinary {
            give_to_ordinary_user(dir);
        }
    };
    make(&spec.dir);
    let origin = from.provider.create(&spec).await.unwrap();
    ok(&origin, FILL).await;
    let snapshot = origin.snapshot(store.path()).await.unwrap();
    assert_eq!(snapshot.skipped, 2, "a pipe and a socket");
    let bytes = std::fs::read(&snapshot.path).unwrap();
    assert_eq!(bytes.len() as u64, snapshot.bytes);
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(snapshot.digest, digest);
    assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 1);
    // What ran goes on.
    ok(
        &origin,
        "n=$(wc -c < ticks); while [ $(wc -c < ticks) = $n ]; do :; done",
    )
    .await;
    let before = ok(&origin, LOOK).await;
    origin.destroy().await.unwrap();

    let mut spec = to.spec("copy");
    spec.shares.push(notes());
    let copy = to.provider.restore(&snapshot, &spec).await.unwrap();
    let after = ok(&copy, LOOK).await;
    // Set-user-id bits, pipes and sockets do not travel.
    let expected = before
        .replace("4755\n", "755\n")
        .replace(
            "pipe\nsock\n",
            "No such file or directory\nNo such file or directory\n",
        )
        .replace("gone\n", "");
    assert_eq!(after, expected);
    // Over files that are there nothing is restored.
    let again = to.provider.restore(&snapshot, &spec).await;
    assert!(matches!(again, Err(SandboxError::AlreadyOpen)));
    copy.destroy().await.unwrap();
}

#[tokio::test]
async fn what_is_kept_comes_back_on_another_host() {
    there_and_back(bench("from"), bench("to"), false).await;
}

#[tokio::test]
async fn what_is_kept_comes_back_from_plain_folders_to_a_disk() {
    let plain = bench_with("plain", |c| c.own_disks = false);
    there_and_back(plain, bench("disk"), false).await;
}

#[tokio::test]
async fn what_an_ordinary_user_kept_comes_back() {
    there_and_back(ordinary_user("user"), bench("user_to"), true).await;
}

type Make<'a> = &'a dyn Fn(&mut tar::Builder<Vec<u8>>);

fn header(kind: tar::EntryType, name: &[u8], mode: u32, link: &[u8]) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name);
    gnu.linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_cksum();
    header
}

fn store(dir: &Path, bytes: &[u8]) -> Snapshot {
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let path = dir.join("hostile");
    std::fs::write(&path, bytes).unwrap();
    Snapshot {
        digest,
        path,
        bytes: bytes.len() as u64,
        skipped: 0,
    }
}

#[tokio::test]
async fn hostile_archives_are_refused_and_leave_nothing() {
    use tar::EntryType::*;
    let bench = bench("hostile_archive");
    let dir = tempfile::tempdir().unwrap();
    let put =
        |b: &mut tar::Builder<Vec<u8>>, h: tar::Header| b.append(&h, std::io::empty()).unwrap();
    let one = |kind, name: &'static [u8], mode, link: &'static [u8]| {
        move |b: &mut tar::Builder<Vec<u8>>| put(b, header(kind, name, mode, link))
    };
    let through_link = |b: &mut tar::Builder<Vec<u8>>| {
        put(b, header(Symlink, b"workspace/l", 0o777, b"/tmp"));
        put(b, header(Regular, b"workspace/l/f", 0o644, b""));
    };
    let twice = |b: &mut tar::Builder<Vec<u8>>| {
        put(b, header(Regular, b"workspace/f", 0o644, b""));
        put(b, header(Regular, b"workspace/f", 0o644, b""));
    };
    let link_to_link = |b: &mut tar::Builder<Vec<u8>>| {
        put(b, header(Symlink, b"workspace/l", 0o777, b"/etc/passwd"));
        put(b, header(Link, b"workspace/h", 0o644, b"workspace/l"));
    };
    let many = |b: &mut tar::Builder<Vec<u8>>| {
        for n in 0..600 {
            put(
                b,
                header(Regular, format!("workspace/{n}").as_bytes(), 0o644, b""),
            );
        }
    };
    let bomb = |b: &mut tar::Builder<Vec<u8>>| {
        let mut h = header(Regular, b"workspace/bomb", 0o644, b"");
        h.set_size(40 << 20);
        h.set_cksum();
        b.append(&h, std::io::Read::take(std::io::repeat(0), 40 << 20))
            .unwrap();
    };
    let archives: [(&str, Make<'_>); 15] = [
        ("absolute", &one(Regular, b"/etc/x", 0o644, b"")),
        ("dots", &one(Regular, b"workspace/../../x", 0o644, b"")),
        ("folder", &one(Regular, b"lock/x", 0o644, b"")),
        ("top", &one(Regular, b"workspace", 0o644, b"")),
        ("device", &one(Char, b"workspace/null", 0o666, b"")),
        ("block", &one(Block, b"workspace/disk", 0o666, b"")),
        ("pipe", &one(Fifo, b"workspace/pipe", 0o666, b"")),
        ("setuid", &one(Regular, b"workspace/su", 0o4755, b"")),
        (
            "link out",
            &one(Link, b"workspace/h", 0o644, b"/etc/passwd"),
        ),
        (
            "link up",
            &one(Link, b"workspace/h", 0o644, b"workspace/../../lock"),
        ),
        ("through a link", &through_link),
        ("twice", &twice),
        ("link to a link", &link_to_link),
        ("too many", &many),
        ("too large", &bomb),
    ];
    let mut spec = bench.spec("victim");
    spec.limits.disk_bytes = 32 << 20;
    spec.limits.disk_inodes = 512;
    let refused = async |name: &str, snapshot: &Snapshot| {
        let error = bench.provider.restore(snapshot, &spec).await.err();
        assert!(
            matches!(error, Some(SandboxError::Snapshot(_))),
            "{name}: {error:?}"
        );
        assert!(!spec.dir.exists(), "{name}");
    };
    for (name, make) in archives {
        let mut builder = tar::Builder::new(Vec::new());
        make(&mut builder);
        let bytes = zstd::encode_all(&builder.into_inner().unwrap()[..], 1).unwrap();
        refused(name, &store(dir.path(), &bytes)).await;
    }
    refused("garbage", &store(dir.path(), &[7; 5000])).await;
    let mut good = tar::Builder::new(Vec::new());
    put(&mut good, header(Regular, b"workspace/f", 0o644, b""));
    let bytes = zstd::encode_all(&good.into_inner().unwrap()[..], 1).unwrap();
    refused("truncated", &store(dir.path(), &bytes[..bytes.len() / 2])).await;
    let snapshot = store(dir.path(), &bytes);
    std::fs::File::options()
        .append(true)
        .open(&snapshot.path)
        .unwrap()
        .write_all(b"x")
        .unwrap();
    refused("of another name", &snapshot).await;
    let snapshot = store(dir.path(), &bytes);
    let sandbox = bench.provider.restore(&snapshot, &spec).await.unwrap();
    ok(&sandbox, "test -f /workspace/f").await;
    sandbox.destroy().await.unwrap();
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}

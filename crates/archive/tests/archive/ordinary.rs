//! What is meant well.

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;

use freehold_archive::{File, MemberPath, Unpacked, pack, unpack};
use tar::EntryType::{Directory, Regular, XGlobalHeader};

use crate::common::{RULES, gzipped, listed, tar_member, tarred, unpacked, zipped};

fn file(path: &str, executable: bool, bytes: &[u8]) -> File {
    File {
        path: MemberPath::new(path.as_bytes()).unwrap(),
        executable,
        bytes: bytes.to_vec(),
    }
}

#[test]
fn every_format_unpacks_to_the_same_folder() {
    let members = [
        tar_member(b"./", Directory, 0o700, b""),
        tar_member(b"./top/", Directory, 0o700, b""),
        tar_member(b"./top/run.sh", Regular, 0o700, b"#!/bin/sh\n"),
        tar_member(b"./top/empty/", Directory, 0o700, b""),
        tar_member(b"./top/a/b.txt", Regular, 0o600, b"b"),
    ];
    let tar = tarred(&members);
    let zip = pack(
        "top",
        vec![
            file("run.sh", true, b"#!/bin/sh\n"),
            file("a/b.txt", false, b"b"),
        ],
    )
    .unwrap();
    for (what, archive, folder) in [
        ("tar", &tar, true),
        ("tar.gz", &gzipped(&tar), true),
        ("zip", &zip, false),
    ] {
        let base = tempfile::tempdir().unwrap();
        let to = base.path().join("to");
        let made = unpack(Cursor::new(archive), &to, RULES).unwrap();
        let expected = Unpacked {
            files: 2,
            bytes: 11,
            skipped: 0,
        };
        assert_eq!(made, expected, "{what}");
        let mode = |p: &str| to.join(p).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("run.sh"), mode("a/b.txt")), (0o755, 0o644), "{what}");
        assert_eq!(std::fs::read(to.join("a/b.txt")).unwrap(), b"b", "{what}");
        assert_eq!(to.join("empty").is_dir(), folder, "{what}");
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1, "{what}");
    }
}

#[test]
fn only_a_folder_that_holds_everything_is_stripped() {
    let two = zipped(&[("a/x", b"1"), ("b/x", b"2")]);
    let (made, around) = unpacked(&two, RULES);
    assert_eq!(made.unwrap(), ["a", "a/x", "b", "b/x"]);
    assert!(around.is_empty(), "{around:?}");
    let (made, _) = unpacked(&zipped(&[("x", b"1")]), RULES);
    assert_eq!(made.unwrap(), ["x"]);
}

#[test]
fn unpacking_again_replaces_the_folder() {
    let base = tempfile::tempdir().unwrap();
    let to = base.path().join("to");
    unpack(Cursor::new(zipped(&[("t/old", b"1")])), &to, RULES).unwrap();
    unpack(Cursor::new(zipped(&[("t/new", b"2")])), &to, RULES).unwrap();
    assert!(to.join("new").exists() && !to.join("old").exists());
    // What cannot be unpacked leaves what is there.
    unpack(
        Cursor::new(zipped(&[("t/ok", b"3"), ("../x", b"")])),
        &to,
        RULES,
    )
    .unwrap_err();
    assert!(to.join("new").exists() && !to.join("ok").exists());
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
}

#[test]
fn equal_files_pack_to_equal_bytes() {
    let (a, b) = (file("a", false, b"1"), file("b/c", true, b"2"));
    let one = pack("top", vec![a.clone(), b.clone()]).unwrap();
    assert_eq!(one, pack("top", vec![b, a]).unwrap());
    let files = listed(&one, RULES).unwrap();
    let expected = [
        ("top/a".to_owned(), false, b"1".to_vec()),
        ("top/b/c".to_owned(), true, b"2".to_vec()),
    ];
    assert_eq!(files, expected);
}

#[test]
fn a_global_header_of_git_is_no_member() {
    let tar = tarred(&[
        tar_member(
            b"pax_global_header",
            XGlobalHeader,
            0o666,
            b"19 comment=abcdefg\n",
        ),
        tar_member(b"repo/README", Regular, 0o644, b"hi"),
    ]);
    assert_eq!(listed(&tar, RULES).unwrap()[0].0, "repo/README");
}

//! What is not: each with its stated outcome, and never a trace outside the folder.

use std::io::{Cursor, Write};

use freehold_archive::{ArchiveError, Limits, PathProblem, Rules};
use tar::EntryType;
use zip::write::SimpleFileOptions;

use crate::common::{
    RULES, SKIPPING, altered, gzipped, listed, stored, tar_member, tarred, unpacked, zipped,
};

/// The archive is refused, and nothing of it is anywhere.
#[track_caller]
fn refused(archive: &[u8]) -> ArchiveError {
    for rules in [RULES, SKIPPING] {
        let (made, around) = unpacked(archive, rules);
        assert!(around.is_empty(), "{around:?}");
        if let Ok(made) = made {
            panic!("unpacked {made:?}");
        }
    }
    listed(archive, RULES).unwrap_err()
}

#[test]
fn paths_out_of_the_folder_are_refused() {
    use PathProblem::*;
    for (path, why) in [
        ("../out", Parent),
        ("a/../../out", Parent),
        ("/tmp/out", Absolute),
        ("..\\out", Character),
        ("C:\\out", Character),
    ] {
        // Not all of these can be written by well-meaning programs.
        let dots = "z".repeat(path.len());
        let zip = altered(
            stored(&[("ok", b"1"), (&dots, b"x")]),
            dots.as_bytes(),
            path.as_bytes(),
        );
        let tar = tarred(&[
            tar_member(b"ok", EntryType::Regular, 0o644, b"1"),
            tar_member(path.as_bytes(), EntryType::Regular, 0o644, b"x"),
        ]);
        for archive in [zip, gzipped(&tar), tar] {
            match refused(&archive) {
                ArchiveError::Path { problem, .. } => assert_eq!(problem, why, "{path}"),
                other => panic!("{path}: {other}"),
            }
        }
    }
}

#[test]
fn names_that_are_no_text_are_refused() {
    let zip = altered(stored(&[("name", b"x")]), b"name", b"n\xffme");
    assert!(matches!(
        refused(&zip),
        ArchiveError::Path {
            problem: PathProblem::Encoding,
            ..
        }
    ));
    let tar = tarred(&[tar_member(b"n\xffme", EntryType::Regular, 0o644, b"x")]);
    assert!(matches!(
        refused(&tar),
        ArchiveError::Path {
            problem: PathProblem::Encoding,
            ..
        }
    ));
    let zip = altered(stored(&[("name", b"x")]), b"name", b"n\x00me");
    assert!(matches!(
        refused(&zip),
        ArchiveError::Path {
            problem: PathProblem::Character,
            ..
        }
    ));
}

#[test]
fn links_devices_and_fifos_are_refused_or_left_out_but_never_made() {
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
    ];
    for kind in kinds {
        let tar = tarred(&[
            tar_member(b"t/ok", EntryType::Regular, 0o644, b"1"),
            tar_member(b"t/special", kind, 0o777, b""),
        ]);
        let error = listed(&tar, RULES).unwrap_err();
        if kind != EntryType::GNUSparse {
            assert!(
                matches!(error, ArchiveError::Special { .. }),
                "{kind:?}: {error}"
            );
            let (made, around) = unpacked(&tar, SKIPPING);
            assert_eq!(made.unwrap(), ["ok"], "{kind:?}");
            assert!(around.is_empty());
        }
    }
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    zip.add_symlink("t/link", "/etc", options).unwrap();
    zip.start_file("t/ok", options).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let error = listed(&zip, RULES).unwrap_err();
    assert!(matches!(error, ArchiveError::Special { .. }), "{error}");
    assert_eq!(unpacked(&zip, SKIPPING).0.unwrap(), ["ok"]);
}

#[test]
fn nothing_is_written_through_a_link() {
    let tar = tarred(&[
        tar_member(b"u/t/x/dir", EntryType::Symlink, 0o777, b""),
        tar_member(b"u/t/x/dir/passwd", EntryType::Regular, 0o644, b"x"),
    ]);
    let (made, around) = unpacked(&tar, SKIPPING);
    assert_eq!(
        made.unwrap(),
        ["t", "t/x", "t/x/dir", "t/x/dir/passwd"],
        "real folders"
    );
    assert!(around.is_empty());
}

#[test]
fn members_in_each_others_way_are_refused() {
    let pairs: [(&str, &str); 4] = [
        ("aaaa", "bbbb"),
        ("t/aa", "t/AA"),
        ("T/aa", "t/bb"),
        ("aa", "aa/b"),
    ];
    for (one, two) in pairs {
        let zip = stored(&[(one, b"1"), (two, b"2")]);
        // The writer will not write a name twice.
        let zip = match one {
            "aaaa" => altered(zip, b"bbbb", b"aaaa"),
            _ => zip,
        };
        let error = refused(&zip);
        assert!(
            matches!(error, ArchiveError::Collision { .. }),
            "{one} {two}: {error}"
        );
    }
    let twice = tar_member(b"same", EntryType::Regular, 0o644, b"1");
    let error = refused(&tarred(&[twice.clone(), twice]));
    assert!(matches!(error, ArchiveError::Collision { .. }), "{error}");
}

#[test]
fn bombs_are_stopped_while_they_inflate() {
    let zeros = vec![0; 3 << 20];
    let zip = zipped(&[("t/zeros", &zeros)]);
    assert!(matches!(refused(&zip), ArchiveError::Bomb { .. }));
    let tar = tarred(&[tar_member(b"t/zeros", EntryType::Regular, 0o644, &zeros)]);
    assert!(matches!(refused(&gzipped(&tar)), ArchiveError::Bomb { .. }));
    // Within the ratio, but too much: what does not shrink.
    let noise: Vec<u8> = (0..5u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    assert!(matches!(
        refused(&stored(&[("t/noise", &noise)])),
        ArchiveError::TooLarge { .. }
    ));
    let tar = tarred(&[tar_member(b"t/noise", EntryType::Regular, 0o644, &noise)]);
    assert!(matches!(refused(&tar), ArchiveError::TooLarge { .. }));
}

#[test]
fn many_small_members_share_one_bound() {
    let tenth = vec![7; 420 << 10];
    let names: Vec<String> = (0..10).map(|n| format!("t/{n}")).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), &tenth[..])).collect();
    assert!(matches!(
        refused(&stored(&files)),
        ArchiveError::TooLarge { .. }
    ));
}

#[test]
fn a_bomb_in_an_archive_is_only_a_file() {
    let inner = zipped(&[("zeros", &vec![0; 3 << 20])]);
    let outer = zipped(&[("t/inner.zip", &inner)]);
    assert_eq!(unpacked(&outer, RULES).0.unwrap(), ["inner.zip"]);
}

#[test]
fn a_size_that_lies_is_not_believed() {
    // The header promises 16 bytes; the stream holds three mebibytes.
    let zeros = vec![0; 3 << 20];
    let zip = zipped(&[("t/zeros", &zeros)]);
    let lying = altered(
        zip,
        &(zeros.len() as u32).to_le_bytes(),
        &16u32.to_le_bytes(),
    );
    refused(&lying);
    // The other way round: a tar that promises more than it has.
    let mut header = tar::Header::new_ustar();
    header.set_path("t/much").unwrap();
    header.set_size(1 << 40);
    header.set_mode(0o644);
    header.set_cksum();
    let error = refused(&[&header.as_bytes()[..], b"little"].concat());
    assert!(matches!(error, ArchiveError::Damaged(_)), "{error}");
}

#[test]
fn members_that_share_bytes_are_refused() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("t/a", SimpleFileOptions::default()).unwrap();
    zip.write_all(&[1; 1000]).unwrap();
    zip.shallow_copy_file("t/a", "t/b").unwrap();
    refused(&zip.finish().unwrap().into_inner());
}

#[test]
fn two_names_for_one_member_are_refused() {
    // The local header says one thing and the directory another.
    let mut zip = stored(&[("t/good", b"x")]);
    let local = zip.windows(6).position(|w| w == b"t/good").unwrap();
    zip[local..local + 6].copy_from_slice(b"t/evil");
    refused(&zip);
}

#[test]
fn too_many_members_are_refused() {
    let names: Vec<String> = (0..101).map(|n| format!("t/{n}")).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
    assert!(matches!(
        refused(&zipped(&files)),
        ArchiveError::TooManyMembers { limit: 100 }
    ));
    let members = names
        .iter()
        .map(|n| tar_member(n.as_bytes(), EntryType::Directory, 0o755, b""));
    let tar = tarred(&members.collect::<Vec<_>>());
    assert!(matches!(
        refused(&tar),
        ArchiveError::TooManyMembers { limit: 100 }
    ));
    assert!(listed(&zipped(&files[..100]), RULES).is_ok());
}

#[test]
fn a_zip_that_claims_more_members_than_it_has_room_for_costs_nothing() {
    let mut zip = zipped(&[("t/a", b"x")]);
    let end = zip.len() - 22;
    zip[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
    refused(&zip);
}

#[test]
fn endless_names_are_bounded() {
    // A GNU long name is read whole before there is a member.
    let name = vec![b'n'; 5 << 20];
    let long = tar_member(b"././@LongLink", EntryType::GNULongName, 0o644, &name);
    let tar = tarred(&[long, tar_member(b"x", EntryType::Regular, 0o644, b"")]);
    refused(&gzipped(&tar));
    refused(&tar);
}

#[test]
fn cut_archives_are_refused_at_every_length() {
    let zip = zipped(&[("t/a", &[1; 300]), ("t/b", b"2")]);
    let noise: Vec<u8> = (0..900u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let tar = tarred(&[tar_member(b"t/a", EntryType::Regular, 0o644, &noise)]);
    let gz = gzipped(&tar);
    // A tar may end after any member, so only a cut inside of one can be told.
    for (archive, until) in [(&zip, zip.len()), (&gz, gz.len()), (&tar, 512 + 900)] {
        for cut in 0..until {
            assert!(listed(&archive[..cut], RULES).is_err(), "{cut} of {until}");
        }
        refused(&archive[..until - 1]);
    }
}

#[test]
fn garbage_is_refused_and_never_panics() {
    assert!(matches!(refused(b""), ArchiveError::Format));
    assert!(matches!(refused(&[0; 4096]), ArchiveError::Format));
    assert!(matches!(
        refused(b"BZh91AY&SY"),
        ArchiveError::Unsupported("bzip2")
    ));
    let zip = zipped(&[("t/a", &[1; 300]), ("t/b", b"2")]);
    let tar = gzipped(&tarred(&[tar_member(
        b"t/a",
        EntryType::Regular,
        0o644,
        b"1",
    )]));
    for archive in [zip, tar] {
        for at in 0..archive.len() {
            for bit in [0, 3, 7] {
                let mut flipped = archive.clone();
                flipped[at] ^= 1 << bit;
                // Refused or not, it ends, and every path it gives is one of ours.
                for (path, ..) in listed(&flipped, SKIPPING).unwrap_or_default() {
                    assert!(
                        !path.starts_with('/') && !path.contains(".."),
                        "byte {at}: {path}"
                    );
                }
            }
        }
    }
}

#[test]
fn encrypted_members_are_named_as_such() {
    let mut zip = stored(&[("t/a", b"x")]);
    for (magic, flags) in [(&b"PK\x03\x04"[..], 6), (b"PK\x01\x02", 8)] {
        let at = zip.windows(4).position(|w| w == magic).unwrap();
        zip[at + flags] |= 1;
    }
    let error = refused(&zip);
    assert!(
        matches!(error, ArchiveError::Unsupported("encryption")),
        "{error}"
    );
}

#[test]
fn the_callers_failure_is_told_from_the_archives() {
    let limits = Limits {
        members: 10,
        bytes: 100,
        ratio: 100,
    };
    let rules = Rules { limits, ..RULES };
    let error = freehold_archive::read(Cursor::new(zipped(&[("a", b"x")])), rules, &mut |_| {
        Err(ArchiveError::Io {
            doing: "keep it",
            source: std::io::ErrorKind::StorageFull.into(),
        })
    });
    assert!(matches!(
        error,
        Err(ArchiveError::Io {
            doing: "keep it",
            ..
        })
    ));
}

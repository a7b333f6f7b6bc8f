//! Skills on disk (contract 55 §13): each in a folder of its own, unpacked from the archive that a
//! [`FileSource`] gives. The same for the sandboxes of the server, which shows the folder at
//! `/skills`, and for a worker's, whose agents are told of `/workspace/skills`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_archive::{ArchiveError, Limits, Rules, Special, unpack};
use freehold_base::limits::{MAX_SKILL, MAX_SKILL_FILES, MAX_SKILL_NAME};
use freehold_sandbox::{Access, Share};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::files::FileSource;
use crate::uploads::make_dir;

/// The folder of a sandbox's state directory that holds its skills.
pub const FOLDER: &str = "skills";
/// Bytes of an archive: content that does not shrink, and what a zip adds to it.
const MAX_ARCHIVE: u64 = MAX_SKILL + 4 * 1024 * 1024;
/// Longest the archives of one [`lay`] may take to arrive: the call that waits for them must have time
/// left for itself (contract 55 §3).
const PATIENCE: Duration = Duration::from_secs(60);
const RULES: Rules = Rules {
    limits: Limits {
        members: 2 * MAX_SKILL_FILES,
        bytes: MAX_SKILL,
        // The server packed it, and packs what shrinks to nothing as it packs everything.
        ratio: u64::MAX,
    },
    // A server of others may leave them in.
    special: Special::Skip,
};

/// Where the sandboxes of the server show them (contract 55 §15).
pub const IN_CLOUD: &str = "/skills";
/// Where the sandboxes of a worker show them (contract 55 §13).
pub const ON_WORKERS: &str = "/workspace/skills";

/// Shows them in a sandbox.
pub(crate) fn share(at: &str) -> Share {
    Share {
        folder: FOLDER.to_owned(),
        at: at.to_owned(),
        access: Access::ReadOnly,
    }
}

/// A skill to be laid down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skill {
    /// The name its version has; becomes that of the folder.
    pub name: String,
    /// Names its archive in the [`FileSource`].
    pub key: String,
}

/// Why a skill is not there.
#[derive(Debug, thiserror::Error)]
pub enum SkillError {
    /// The name could not be that of a folder of ours.
    #[error(
        "a skill's name should hold 1 to {MAX_SKILL_NAME} lower-case letters, digits and hyphens"
    )]
    Name,
    /// Its archive could not be had.
    #[error("cannot fetch the skill's archive")]
    Fetch(#[source] io::Error),
    /// Its archive is still on its way.
    #[error("the skill's archive did not arrive within {} s", PATIENCE.as_secs())]
    Slow,
    /// Its archive is larger than any may be.
    #[error("the skill's archive is larger than {MAX_ARCHIVE} bytes")]
    TooLarge,
    /// Its archive cannot be unpacked.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is no room for it.
    #[error("cannot make room for the skill")]
    Room(#[source] io::Error),
}

impl SkillError {
    /// Whether another attempt would come to the same: a version's archive does not change.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Name | Self::TooLarge => true,
            Self::Archive(error) => !matches!(error, ArchiveError::Io { .. }),
            Self::Fetch(_) | Self::Slow | Self::Room(_) => false,
        }
    }
}

/// Lays skills down as `folder/NAME`, one after the other, each whole or not at all; what is there
/// under the same name is replaced. Gives the folder of each, or why there is none. `folder` is made
/// if need be; nobody hostile may write to it.
pub async fn lay(
    skills: &[Skill],
    folder: &Path,
    source: &dyn FileSource,
) -> Vec<Result<PathBuf, SkillError>> {
    let deadline = Instant::now() + PATIENCE;
    let mut laid = Vec::with_capacity(skills.len());
    for skill in skills {
        laid.push(lay_one(skill, folder, source, deadline).await);
    }
    laid
}

async fn lay_one(
    skill: &Skill,
    folder: &Path,
    source: &dyn FileSource,
    deadline: Instant,
) -> Result<PathBuf, SkillError> {
    if !is_name(&skill.name) {
        return Err(SkillError::Name);
    }
    make_dir(folder, 0o755).await.map_err(SkillError::Room)?;
    let fetching = fetch(&skill.key, folder, source);
    let archive = tokio::time::timeout_at(deadline, fetching)
        .await
        .map_err(|_| SkillError::Slow)??;
    let to = folder.join(&skill.name);
    let unpacked = tokio::task::spawn_blocking(move || match unpack(archive, &to, RULES) {
        Ok(_) => Ok(to),
        Err(error) => Err(error.into()),
    });
    // It was not cancelled: nobody else holds it.
    unpacked
        .await
        .unwrap_or_else(|error| Err(SkillError::Room(io::Error::other(error))))
}

/// The archive in a file without a name, which is gone when it is closed.
async fn fetch(key: &str, folder: &Path, source: &dyn FileSource) -> Result<File, SkillError> {
    let file = tempfile::tempfile_in(folder).map_err(SkillError::Room)?;
    let mut file = tokio::fs::File::from_std(file);
    let content = source.open(key).await.map_err(SkillError::Fetch)?;
    let mut content = content.take(MAX_ARCHIVE + 1);
    let copied = tokio::io::copy(&mut content, &mut file).await;
    if copied.map_err(SkillError::Fetch)? > MAX_ARCHIVE {
        return Err(SkillError::TooLarge);
    }
    tokio::io::AsyncWriteExt::flush(&mut file)
        .await
        .map_err(SkillError::Room)?;
    Ok(file.into_std().await)
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_SKILL_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use async_trait::async_trait;
    use freehold_archive::{File as Packed, MemberPath, pack};
    use tokio::io::AsyncRead;

    use super::*;

    /// Archives by key.
    struct Archives(HashMap<&'static str, Vec<u8>>);

    #[async_trait]
    impl FileSource for Archives {
        async fn open(&self, key: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
            let found = self.0.get(key).ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(io::Cursor::new(found.clone())))
        }
    }

    fn archive(says: &str) -> Vec<u8> {
        let file = |path: &str, executable, bytes: Vec<u8>| Packed {
            path: MemberPath::new(path.as_bytes()).unwrap(),
            executable,
            bytes,
        };
        // More than any ratio of an upload would allow, as a form may bring it.
        let files = vec![
            file("SKILL.md", false, says.into()),
            file("zeros", false, vec![0; 8 << 20]),
        ];
        pack("anything", files).unwrap()
    }

    fn skill(name: &str, key: &str) -> Skill {
        Skill {
            name: name.to_owned(),
            key: key.to_owned(),
        }
    }

    #[tokio::test]
    async fn each_skill_is_there_or_says_why_not() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("skills");
        let source = Archives(HashMap::from([
            ("one", archive("first")),
            ("two", archive("second")),
            ("cut", archive("cut")[..200].to_vec()),
            ("text", b"no archive".to_vec()),
            ("huge", vec![0; MAX_ARCHIVE as usize + 1]),
        ]));
        let wanted = [
            skill("a", "one"),
            skill("b", "cut"),
            skill("c", "missing"),
            skill("d", "text"),
            skill("e", "huge"),
            skill("../f", "one"),
            skill("", "one"),
        ];
        let laid = lay(&wanted, &folder, &source).await;
        assert_eq!(laid[0].as_ref().unwrap(), &folder.join("a"));
        assert!(matches!(laid[1], Err(SkillError::Archive(_))));
        assert!(matches!(laid[2], Err(SkillError::Fetch(_))));
        assert!(matches!(
            laid[3],
            Err(SkillError::Archive(ArchiveError::Format))
        ));
        assert!(matches!(laid[4], Err(SkillError::TooLarge)));
        assert!(matches!(laid[5], Err(SkillError::Name)));
        assert!(matches!(laid[6], Err(SkillError::Name)));
        let there = |dir: &Path| {
            let all = std::fs::read_dir(dir).unwrap();
            all.map(|e| e.unwrap().file_name()).collect::<Vec<_>>()
        };
        assert_eq!(there(&folder), ["a"]);
        assert_eq!(there(base.path()), ["skills"]);
        let says = || std::fs::read_to_string(folder.join("a/SKILL.md")).unwrap();
        assert_eq!(says(), "first");
        lay(&[skill("a", "two")], &folder, &source).await[0]
            .as_ref()
            .unwrap();
        assert_eq!(says(), "second");
    }

    /// Sends a byte now and then, for ever.
    struct Drip;

    #[async_trait]
    impl FileSource for Drip {
        async fn open(&self, _: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
            let (mut to, from) = tokio::io::duplex(64);
            tokio::spawn(async move {
                while tokio::io::AsyncWriteExt::write_all(&mut to, b"P")
                    .await
                    .is_ok()
                {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            });
            Ok(Box::new(from))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_arrives_is_waited_for_once_and_not_long() {
        let base = tempfile::tempdir().unwrap();
        let wanted = [skill("a", "one"), skill("b", "two"), skill("c", "three")];
        let start = Instant::now();
        let laid = lay(&wanted, base.path(), &Drip).await;
        assert!(laid.iter().all(|l| matches!(l, Err(SkillError::Slow))));
        assert!(start.elapsed() < PATIENCE + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn without_skills_nothing_is_made() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("skills");
        assert!(
            lay(&[], &folder, &Archives(HashMap::new()))
                .await
                .is_empty()
        );
        assert!(!folder.exists());
    }
}

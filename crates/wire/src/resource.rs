//! Resources of a session (contract 30, "Resource params", "Resource objects"; contract 72 §5).

use std::collections::BTreeSet;

use freehold_base::limits::MAX_SESSION_FILES;
use freehold_base::{FileId, Secret, SessionResourceId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ApiError;
use crate::decode::{At, Decode, Object, echo, list, one_of, reference, text};
use crate::request::Request;

/// Where files are mounted.
pub const UPLOADS: &str = "/mnt/session/uploads";
/// Where repositories are mounted.
const WORKSPACE: &str = "/workspace";
/// Bytes of a mount path, as sent.
const MAX_PATH: usize = 1024;
/// Bytes of one component of a path; what file systems commonly allow.
const MAX_COMPONENT: usize = 255;
/// Memory stores of a session (contract 00 §8).
const MAX_MEMORY_STORES: usize = 8;
/// Resources of a session; room for the files, the stores and repositories.
const MAX_RESOURCES: usize = 1000;
/// Characters of `instructions`.
const MAX_INSTRUCTIONS: usize = 4096;
/// Characters of a repository's URL, a branch or a token.
const MAX_REPOSITORY_TEXT: usize = 2048;

/// A resource to attach.
#[derive(Debug, Clone, PartialEq)]
pub enum ResourceParam {
    /// An uploaded file.
    File(FileParam),
    /// A repository; not run by this version.
    GithubRepository(RepositoryParam),
    /// A memory store; not run by this version.
    MemoryStore(MemoryStoreParam),
}

/// `{"type":"file","file_id","mount_path"?}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileParam {
    /// The uploaded file.
    pub file_id: FileId,
    /// Absolute, normalised, under [`UPLOADS`].
    pub mount_path: String,
}

/// `{"type":"github_repository",…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryParam {
    /// `https://github.com/<owner>/<repo>`.
    pub url: String,
    /// Write-only.
    pub authorization_token: Option<Secret<String>>,
    /// What to check out.
    pub checkout: Option<Checkout>,
    /// Absolute, normalised, under `/workspace`.
    pub mount_path: String,
}

/// What to check out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Checkout {
    /// A branch's head.
    Branch {
        /// Its name.
        name: String,
    },
    /// A commit.
    Commit {
        /// 40 hexadecimal digits.
        sha: String,
    },
}

/// `{"type":"memory_store",…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryStoreParam {
    /// `memstore_…`.
    pub memory_store_id: String,
    /// Read-write unless said otherwise.
    pub access: Access,
    /// At most 4096 characters.
    pub instructions: Option<String>,
}

/// Access to a memory store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// The default.
    ReadWrite,
    /// Mounted read-only.
    ReadOnly,
}

/// A resource as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Resource {
    /// A file.
    File(FileResource),
    /// A repository.
    GithubRepository(RepositoryResource),
    /// A memory store.
    MemoryStore(MemoryStoreResource),
}

/// A file of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileResource {
    /// `sesrsc_…`.
    pub id: SessionResourceId,
    /// The session's own copy, not the uploaded file.
    pub file_id: FileId,
    /// Absolute, under [`UPLOADS`].
    pub mount_path: String,
    /// When it was attached.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A repository of a session; the token is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryResource {
    /// `sesrsc_…`.
    pub id: SessionResourceId,
    /// Its URL.
    pub url: String,
    /// Absolute, under `/workspace`.
    pub mount_path: String,
    /// What is checked out; null is the default branch.
    pub checkout: Option<Checkout>,
    /// When it was attached.
    pub created_at: Timestamp,
    /// When its token was last changed.
    pub updated_at: Timestamp,
}

/// A memory store of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStoreResource {
    /// `memstore_…`.
    pub memory_store_id: String,
    /// Access.
    pub access: Access,
    /// Guidance.
    pub instructions: Option<String>,
    /// Name at the time it was attached.
    pub name: Option<String>,
    /// Description at that time; empty when there was none.
    pub description: String,
    /// Where it is mounted.
    pub mount_path: Option<String>,
}

/// Reads the `resources` of a session create request, with the rules between them.
///
/// # Errors
/// A resource breaks a rule, or two mount paths collide.
pub fn resources(value: Value, at: &At<'_>) -> Decode<Vec<ResourceParam>> {
    let resources = list(0, MAX_RESOURCES, param)(value, at)?;
    let mut files = 0;
    let mut stores = BTreeSet::new();
    let mut mounts = Mounts::default();
    for (n, resource) in resources.iter().enumerate() {
        let at = at.index(n);
        match resource {
            ResourceParam::File(file) => {
                files += 1;
                mounts.add(&file.mount_path, &at.key("mount_path"))?;
            }
            ResourceParam::GithubRepository(repository) => {
                mounts.add(&repository.mount_path, &at.key("mount_path"))?;
            }
            ResourceParam::MemoryStore(store) => {
                if !stores.insert(store.memory_store_id.as_str()) {
                    return Err(at
                        .key("memory_store_id")
                        .error("A memory store can be attached only once"));
                }
            }
        }
    }
    if MAX_SESSION_FILES < files {
        return Err(at.error(format_args!(
            "At most {MAX_SESSION_FILES} files per session are allowed, not {files}"
        )));
    }
    if MAX_MEMORY_STORES < stores.len() {
        return Err(at.error(format_args!(
            "At most {MAX_MEMORY_STORES} memory stores per session are allowed, not {}",
            stores.len()
        )));
    }
    Ok(resources)
}

/// Mount paths in use: no two may be equal, and none may lie inside another.
#[derive(Debug, Clone, Default)]
pub struct Mounts(BTreeSet<String>);

impl Mounts {
    /// The paths of resources that are already attached.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        Self(paths.into_iter().map(str::to_owned).collect())
    }
    /// Adds one.
    ///
    /// # Errors
    /// It collides with one that is there.
    pub fn add(&mut self, path: &str, at: &At<'_>) -> Decode<()> {
        let inside = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let above = path
            .match_indices('/')
            .map(|(end, _)| &path[..end])
            .chain([path])
            .any(|prefix| self.0.contains(prefix));
        // Names that merely begin alike (`/a-b` after `/a`) may stand between `/a` and `/a/…`.
        let below = self
            .0
            .range(format!("{path}/")..)
            .next()
            .is_some_and(|next| inside(next, path));
        if above || below {
            return Err(at.error(format_args!(
                "`{}` collides with the mount path of another resource",
                echo(path)
            )));
        }
        self.0.insert(path.to_owned());
        Ok(())
    }
}

fn param(value: Value, at: &At<'_>) -> Decode<ResourceParam> {
    let mut o = Object::new(value, at)?;
    match o.tag(&["file", "github_repository", "memory_store"])? {
        "file" => file(o).map(ResourceParam::File),
        "github_repository" => repository(o).map(ResourceParam::GithubRepository),
        _ => memory_store(o).map(ResourceParam::MemoryStore),
    }
}

fn file(mut o: Object<'_>) -> Decode<FileParam> {
    let file_id: FileId = o.required("file_id", reference("File"))?;
    let mount_path = o.optional("mount_path", |value, at| mount_path(value, at, UPLOADS))?;
    o.finish()?;
    Ok(FileParam {
        mount_path: mount_path.unwrap_or_else(|| format!("{UPLOADS}/{file_id}")),
        file_id,
    })
}

/// `POST /v1/sessions/{sid}/resources`: files only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddResource(pub FileParam);

impl Request for AddResource {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        o.tag(&["file"])?;
        file(o).map(Self)
    }
}

/// `POST /v1/sessions/{sid}/resources/{rid}`: a new token of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateResource {
    /// Write-only.
    pub authorization_token: Secret<String>,
}

impl Request for UpdateResource {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let authorization_token = o.required("authorization_token", token)?;
        o.finish()?;
        Ok(Self {
            authorization_token,
        })
    }
}

fn token(value: Value, at: &At<'_>) -> Decode<Secret<String>> {
    let token = text(1, MAX_REPOSITORY_TEXT)(value, at)?;
    if token.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(at.error("String should not contain whitespace or control characters"));
    }
    Ok(Secret::new(token))
}

fn repository(mut o: Object<'_>) -> Decode<RepositoryParam> {
    let url = o.required("url", |value, at| {
        let url = text(1, MAX_REPOSITORY_TEXT)(value, at)?;
        match repository_name(&url) {
            Some(_) => Ok(url),
            None => Err(at.error(
                "Input should be a repository URL of the form https://github.com/<owner>/<repo>, without .git",
            )),
        }
    })?;
    let authorization_token = o.present("authorization_token", token)?;
    let checkout = o.optional("checkout", checkout)?;
    let mount_path = o.optional("mount_path", |value, at| mount_path(value, at, WORKSPACE))?;
    o.finish()?;
    let name = repository_name(&url).unwrap_or_default();
    Ok(RepositoryParam {
        mount_path: mount_path.unwrap_or_else(|| format!("{WORKSPACE}/{name}")),
        url,
        authorization_token,
        checkout,
    })
}

fn repository_name(url: &str) -> Option<&str> {
    let is_name = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
    };
    let (owner, name) = url.strip_prefix("https://github.com/")?.split_once('/')?;
    (is_name(owner) && is_name(name) && !name.ends_with(".git")).then_some(name)
}

fn checkout(value: Value, at: &At<'_>) -> Decode<Checkout> {
    let mut o = Object::new(value, at)?;
    let checkout = if o.tag(&["branch", "commit"])? == "branch" {
        Checkout::Branch {
            name: o.required("name", |value, at| {
                let name = text(1, MAX_COMPONENT)(value, at)?;
                // A leading dash would read as an option of git.
                if name.starts_with('-') || name.chars().any(|c| c.is_control() || c == ' ') {
                    return Err(at.error("Input should be a branch name"));
                }
                Ok(name)
            })?,
        }
    } else {
        Checkout::Commit {
            sha: o.required("sha", |value, at| {
                let sha = text(1, MAX_COMPONENT)(value, at)?;
                if sha.len() != 40 || !sha.bytes().all(|c| c.is_ascii_hexdigit()) {
                    return Err(at.error("Input should be a full commit SHA of 40 digits"));
                }
                Ok(sha)
            })?,
        }
    };
    o.finish()?;
    Ok(checkout)
}

fn memory_store(mut o: Object<'_>) -> Decode<MemoryStoreParam> {
    let store = MemoryStoreParam {
        memory_store_id: o.required("memory_store_id", |value, at| {
            let id = text(1, MAX_COMPONENT)(value, at)?;
            match id.strip_prefix("memstore_") {
                Some(rest)
                    if !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_alphanumeric()) =>
                {
                    Ok(id)
                }
                _ => Err(at.error("not a valid id: expected the form memstore_…")),
            }
        })?,
        access: o
            .optional(
                "access",
                one_of(&[
                    ("read_write", Access::ReadWrite),
                    ("read_only", Access::ReadOnly),
                ]),
            )?
            .unwrap_or(Access::ReadWrite),
        instructions: o.optional("instructions", text(0, MAX_INSTRUCTIONS))?,
    };
    o.finish()?;
    Ok(store)
}

/// A mount path under `root`: as sent if it lies there already, else rooted there.
fn mount_path(value: Value, at: &At<'_>, root: &str) -> Decode<String> {
    let path = text(1, MAX_PATH)(value, at)?;
    normalise(&path, root).map_err(|problem| at.error(problem))
}

/// Normalises an absolute path and roots it: repeated slashes and `.` vanish, `..` is refused.
///
/// # Errors
/// Says what is wrong with the path.
pub fn normalise(path: &str, root: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("Path should be absolute");
    }
    if MAX_PATH < path.len() {
        return Err("Path is too long");
    }
    if path.ends_with('/') {
        return Err("Path should name a file, not end in '/'");
    }
    if path.chars().any(char::is_control) {
        return Err("Path should not contain control characters");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err("Path should not contain '..'"),
            part if MAX_COMPONENT < part.len() => return Err("Path component is too long"),
            part => parts.push(part),
        }
    }
    let normal = format!("/{}", parts.join("/"));
    let inner = match normal.strip_prefix(root) {
        Some("") => "",
        Some(rest) if rest.starts_with('/') => rest,
        _ => &normal,
    };
    if inner.len() <= 1 {
        return Err("Path should name a place below the mount root");
    }
    Ok(format!("{root}{inner}"))
}

impl AddResource {
    /// Checks the new path against those of the session.
    ///
    /// # Errors
    /// It collides with one of them.
    pub fn check_mount<'a>(&self, existing: impl IntoIterator<Item = &'a str>) -> Result<(), ApiError> {
        Mounts::of(existing).add(&self.0.mount_path, &At::ROOT.key("mount_path"))
    }
}

//! Resources as requested (contract 30, "Resource params").

use std::collections::BTreeSet;

use freehold_base::limits::{MAX_SESSION_FILES, MAX_SESSION_MEMORY_STORES};
use freehold_base::{FileId, MemoryStoreId, Secret};
use serde_json::Value;

use super::mount::{MAX_COMPONENT, Mounts, UPLOADS, WORKSPACE, mount_path};
use super::{Access, Checkout};
use crate::ApiError;
use crate::decode::{At, Decode, Object, list, one_of, reference, text};
use crate::request::Request;

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
    /// A memory store.
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

/// `{"type":"memory_store",…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryStoreParam {
    /// The store.
    pub memory_store_id: MemoryStoreId,
    /// Read-write unless said otherwise.
    pub access: Access,
    /// At most 4096 characters.
    pub instructions: Option<String>,
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
    if MAX_SESSION_MEMORY_STORES < stores.len() {
        return Err(at.error(format_args!(
            "At most {MAX_SESSION_MEMORY_STORES} memory stores per session are allowed, not {}",
            stores.len()
        )));
    }
    Ok(resources)
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
        memory_store_id: o.required("memory_store_id", reference("Memory store"))?,
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

impl AddResource {
    /// Checks the new path against those of the session.
    ///
    /// # Errors
    /// It collides with one of them.
    pub fn check_mount<'a>(
        &self,
        existing: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), ApiError> {
        Mounts::of(existing).add(&self.0.mount_path, &At::ROOT.key("mount_path"))
    }
}

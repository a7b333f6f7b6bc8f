//! Settings of object storage.

use std::path::PathBuf;
use std::time::Duration;

use freehold_base::Secret;
use freehold_store::ObjectStorage;

use super::keys;
use super::{Settings, file};
use crate::environment;
use crate::exit::Failure;

/// What requests are signed for if nothing is said; storage that is not of AWS mostly takes it.
const REGION: &str = "us-east-1";
/// How long a request that fails is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the object storage is. Credentials are read when they are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorageSettings {
    /// As it was set: `s3://bucket/prefix`.
    pub(crate) url: String,
    bucket: String,
    prefix: String,
    endpoint: Option<String>,
    region: String,
    access_key_id: Option<String>,
    secret_key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

impl file::Storage {
    /// Checks them; `None` if blobs stay in the data directory.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(super) fn settings(self, flag: Option<String>) -> Result<Option<StorageSettings>, Failure> {
        let Some(url) = flag.or(self.blobs).filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let (bucket, prefix) = parts(&url).ok_or_else(|| {
            Failure::usage("storage.blobs: must be s3://BUCKET or s3://BUCKET/PREFIX")
        })?;
        if !self.endpoint.as_deref().is_none_or(is_endpoint) {
            return Err(Failure::usage(
                "storage.endpoint: must be http:// or https://, a host, and perhaps a port",
            ));
        }
        Ok(Some(StorageSettings {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            url,
            endpoint: self.endpoint,
            region: self.region.unwrap_or_else(|| REGION.to_owned()),
            access_key_id: self.access_key_id,
            secret_key_file: self.secret_key_file,
            ca_file: self.ca_file,
        }))
    }
}

/// Bucket and prefix.
fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let named = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|c| lower(c) || b"-._".contains(&c))
        && bucket.starts_with(|c: char| c.is_ascii_alphanumeric());
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    let folder = |part: &str| !part.is_empty() && part.bytes().all(plain) && !part.starts_with('.');
    let placed = prefix.is_empty() || (prefix.len() <= 512 && prefix.split('/').all(folder));
    (named && placed).then_some((bucket, prefix))
}

/// Without a path, or a user whose password would be in logs.
fn is_endpoint(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    rest.map(|host| host.strip_suffix('/').unwrap_or(host))
        .is_some_and(|host| {
            let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._:[]".contains(&c);
            !host.is_empty() && host.bytes().all(plain)
        })
}

/// The object storage and its credentials: those of the environment, else those the configuration
/// names. `None` if blobs stay in the data directory.
///
/// # Errors
/// There are no credentials, or a file cannot be read.
pub(crate) fn object_storage(settings: &Settings) -> Result<Option<ObjectStorage>, Failure> {
    let Some(storage) = &settings.storage else {
        return Ok(None);
    };
    let (access_key_id, secret_access_key, session_token) = credentials(storage)?;
    let authorities = storage.ca_file.as_ref().map(|path| {
        std::fs::read(path)
            .map_err(|e| Failure::usage(format!("storage.ca_file: {}: {e}", path.display())))
    });
    Ok(Some(ObjectStorage {
        bucket: storage.bucket.clone(),
        prefix: storage.prefix.clone(),
        endpoint: storage.endpoint.clone(),
        region: storage.region.clone(),
        access_key_id,
        secret_access_key,
        session_token,
        authorities: authorities.transpose()?,
        patience: PATIENCE,
        spool: settings.spool(),
    }))
}

type Credentials = (String, Secret<String>, Option<Secret<String>>);

fn credentials(storage: &StorageSettings) -> Result<Credentials, Failure> {
    let id = environment::variable("AWS_ACCESS_KEY_ID")?;
    let key = environment::secret("AWS_SECRET_ACCESS_KEY")?;
    match (id, key) {
        (Some(id), Some(key)) => {
            let token = environment::secret("AWS_SESSION_TOKEN")?;
            return Ok((id, key, token));
        }
        (None, None) => {}
        _ => {
            return Err(Failure::usage(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together",
            ));
        }
    }
    match (&storage.access_key_id, &storage.secret_key_file) {
        (Some(id), Some(path)) => {
            let key = keys::read("storage.secret_key_file", path)?;
            Ok((id.clone(), key, None))
        }
        _ => Err(Failure::usage("the object storage needs credentials").hint(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or storage.access_key_id and \
             storage.secret_key_file",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_a_bucket_and_perhaps_a_prefix() {
        assert_eq!(parts("s3://bucket"), Some(("bucket", "")));
        assert_eq!(parts("s3://bucket/"), Some(("bucket", "")));
        assert_eq!(parts("s3://a.b-c/d/E_f/"), Some(("a.b-c", "d/E_f")));
        for bad in [
            "bucket",
            "S3://bucket",
            "s3://ab",
            "s3://bucket/?x",
            "s3://-ab",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
        for good in [
            "http://127.0.0.1:9000",
            "https://s3.example/",
            "http://[::1]:9",
        ] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in [
            "s3.example",
            "https://",
            "https://a/b",
            "https://a?b",
            "http://a@b",
        ] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn other_settings_wait_for_the_one_that_switches() {
        let file = file::Storage {
            endpoint: Some("http://127.0.0.1:9000".into()),
            ..file::Storage::default()
        };
        assert_eq!(file.clone().settings(None).unwrap(), None);
        let on = file.settings(Some("s3://bucket".into())).unwrap().unwrap();
        assert_eq!((&*on.bucket, &*on.region), ("bucket", REGION));
    }
}

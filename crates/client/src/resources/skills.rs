//! Skills (contract 70).

use bytes::Bytes;
use freehold_wire::skill::SkillVersion;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::files::Download;
use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `GET /v1/skills`.
    pub fn skills(&self) -> Pages<Value> {
        Pages::new(self, &["v1", "skills"], &[("limit", "1000")])
    }

    /// `POST /v1/skills` with a zip. Not repeated.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_skill(
        &self,
        zip: Bytes,
        display_name: Option<&str>,
    ) -> Result<Value, ClientError> {
        let form = match display_name {
            Some(name) => Form::new().text("display_name", name.to_owned()),
            None => Form::new(),
        };
        self.upload(&["v1", "skills"], form, zip).await
    }

    /// `POST /v1/skills/{id}/versions` with a zip. Not repeated.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_skill_version(&self, id: &str, zip: Bytes) -> Result<Value, ClientError> {
        self.upload(&["v1", "skills", id, "versions"], Form::new(), zip)
            .await
    }

    /// `DELETE /v1/skills/{id}`, with all its versions.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_skill(&self, id: &str) -> Result<Value, ClientError> {
        self.delete(&["v1", "skills", id]).await
    }

    /// `GET /v1/skills/{id}/versions/{version}`; a version is an id or `latest`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn skill_version(
        &self,
        id: &str,
        version: &str,
    ) -> Result<SkillVersion, ClientError> {
        self.get(&["v1", "skills", id, "versions", version], &[])
            .await
    }

    /// `GET /v1/skills/{id}/versions/{version}/content`: an archive.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn skill_content(&self, id: &str, version: &str) -> Result<Download, ClientError> {
        let path = ["v1", "skills", id, "versions", version, "content"];
        Ok(Download::new(self, self.download(&path).await?))
    }

    async fn upload(&self, path: &[&str], form: Form, zip: Bytes) -> Result<Value, ClientError> {
        let length = zip.len() as u64;
        let part = Part::stream_with_length(zip, length).file_name("skill.zip");
        let request = self
            .request(Method::POST, path, &[])
            .multipart(form.part("files[]", part));
        let response = self.attempt(request).await?;
        self.json(response).await
    }
}

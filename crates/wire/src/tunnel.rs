//! MCP tunnels (contract 60 §1, §2).

use freehold_base::{Timestamp, TunnelCertificateId, TunnelId, TunnelTokenId};
use serde::Serialize;
use serde_json::Value;

use crate::ApiError;
use crate::decode::{At, Decode, Object, text};
use crate::request::Request;

/// Characters of a tunnel's name.
const MAX_DISPLAY_NAME: usize = 255;
/// Characters of the reason for a new token; our own bound.
const MAX_REASON: usize = 1024;
/// Bytes of a certificate as PEM (contract 60 §3); checked again where it is read.
const MAX_PEM: usize = 8192;

/// A tunnel as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// `tnl_…`.
    pub id: TunnelId,
    /// Always `tunnel`.
    pub r#type: &'static str,
    /// 1 to 255 characters.
    pub display_name: Option<String>,
    /// What the hosts of its MCP servers are directly below.
    pub domain: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// A tunnel's token as shown. It is a secret: only the answers to its reveal and rotation hold it.
#[derive(Serialize)]
pub struct TunnelToken {
    /// `ttok_…`; names this value.
    pub id: TunnelTokenId,
    /// Always `tunnel_token`.
    pub r#type: &'static str,
    /// The value.
    pub tunnel_token: String,
}

/// A certificate authority that a tunnel trusts, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelCertificate {
    /// `tcrt_…`.
    pub id: TunnelCertificateId,
    /// Always `tunnel_certificate`.
    pub r#type: &'static str,
    /// The tunnel.
    pub tunnel_id: TunnelId,
    /// SHA-256 of the certificate (DER), in lower-case hexadecimal.
    pub fingerprint: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// A gateway's connection, as shown; our own, not of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelConnection {
    /// Names it in the logs of both sides.
    pub id: String,
    /// Always `tunnel_connection`.
    pub r#type: &'static str,
    /// The gateway's own name.
    pub gateway: String,
    /// Address and port it comes from.
    pub source: String,
    /// The value of the token it showed.
    pub token_id: TunnelTokenId,
    /// Since when.
    pub connected_at: Timestamp,
    /// Streams that are open.
    pub streams: usize,
    /// Whether its last inner handshakes worked.
    pub healthy: bool,
}

/// `POST /v1/tunnels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTunnel {
    /// A name for people.
    pub display_name: Option<String>,
}

impl Request for CreateTunnel {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let display_name = o.optional("display_name", text(1, MAX_DISPLAY_NAME))?;
        o.finish()?;
        Ok(Self { display_name })
    }
}

/// `POST /v1/tunnels/{id}/rotate_token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateTunnelToken {
    /// Why, for the log.
    pub reason: Option<String>,
}

impl Request for RotateTunnelToken {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let reason = o.optional("reason", text(0, MAX_REASON))?;
        o.finish()?;
        Ok(Self { reason })
    }
}

/// `POST /v1/tunnels/{id}/certificates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddTunnelCertificate {
    /// One certificate, PEM. Not checked here.
    pub ca_certificate_pem: String,
}

impl Request for AddTunnelCertificate {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let ca_certificate_pem = o.required("ca_certificate_pem", text(1, MAX_PEM))?;
        o.finish()?;
        Ok(Self { ca_certificate_pem })
    }
}

/// The refusal to change an archived tunnel.
pub fn archived(id: &TunnelId) -> ApiError {
    ApiError::invalid(format!(
        "Tunnel `{id}` is archived and cannot be changed or used."
    ))
    .with_code("tunnel_archived")
}

//! What a session's sandbox gets of its vaults: variables that hold placeholders, and for the
//! egress proxy what to put in their place and where (contract 64 §6).

use freehold_base::{CredentialId, Secret, SessionId, VaultId};
use freehold_engine::{Draft, State};
use freehold_store::SessionCredential;
use freehold_wire::credential::{
    Credential, CredentialAuth, CredentialNetworking, EnvironmentVariable,
};
use freehold_wire::environment::{EnvironmentConfig, Networking};
use freehold_wire::event::{
    EventBody, RetryStatus, SessionError, SessionErrorEvent, SessionErrorKind,
};
use sha2::{Digest, Sha256};

use crate::load::LoadError;
use crate::runtime::Shared;

/// Variables of one session: what a sandbox's environment has room for.
const MAX_VARIABLES: usize = 200;

/// A credential of type `environment_variable`, resolved for one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentCredential {
    /// Its vault.
    pub vault_id: VaultId,
    /// Its id.
    pub credential_id: CredentialId,
    /// Name of the variable.
    pub name: String,
    /// What the variable holds inside the sandbox. Stays the same for a name in a session, whatever
    /// becomes of the credential.
    pub placeholder: String,
    /// What takes the placeholder's place on the way out. Never inside the sandbox.
    pub value: Secret<String>,
    /// Where.
    pub hosts: CredentialNetworking,
    /// In values of headers.
    pub header: bool,
    /// In bodies.
    pub body: bool,
}

/// The credentials of a session at this moment, in the order of its vaults.
pub(crate) async fn resolve(
    shared: &Shared,
    session: &SessionId,
) -> Result<Vec<EnvironmentCredential>, LoadError> {
    let stored = shared
        .store
        .session_environment_credentials(session)
        .await?;
    if stored.len() > MAX_VARIABLES {
        tracing::warn!(%session, "more than {MAX_VARIABLES} variables; the rest is left out");
    }
    let each = stored
        .into_iter()
        .take(MAX_VARIABLES)
        .map(|c| environment_credential(session, c));
    Ok(each
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect())
}

fn environment_credential(
    session: &SessionId,
    stored: SessionCredential,
) -> Result<Option<EnvironmentCredential>, LoadError> {
    let row = stored.row;
    let value = match stored.value {
        Ok(value) => value,
        // The session goes on without it, as with a credential that somebody archives.
        Err(error) => {
            tracing::error!(%session, credential = %row.id, %error, "credential left out");
            return Ok(None);
        }
    };
    let credential: Credential =
        serde_json::from_str(&row.body).map_err(crate::load::unreadable("credential"))?;
    let CredentialAuth::EnvironmentVariable(variable) = credential.auth else {
        return Ok(None);
    };
    let EnvironmentVariable {
        secret_name,
        networking,
        injection_location,
    } = variable;
    // A line break would end the header and begin another one.
    let fits_header = !value.expose().chars().any(char::is_control);
    Ok(Some(EnvironmentCredential {
        placeholder: placeholder(session, &secret_name),
        vault_id: row.vault_id,
        credential_id: row.id,
        name: secret_name,
        value,
        hosts: networking,
        header: injection_location.header && fits_header,
        body: injection_location.body,
    }))
}

/// Tells nothing of the value, since it is made without it, and is the same wherever the session's
/// sandbox is started again. Letters and digits only, so that no encoding of a request changes it.
fn placeholder(session: &SessionId, name: &str) -> String {
    let digest = Sha256::new()
        .chain_update(b"freehold placeholder\0")
        .chain_update(session.as_str())
        .chain_update(b"\0")
        .chain_update(name)
        .finalize();
    let hex = freehold_base::hex::encode(&digest[..20]);
    format!("freeholdplaceholder{hex}")
}

/// An error for each credential with a host that the environment does not let the sandbox reach and
/// that has not been reported yet.
pub(crate) fn unreachable(
    shared: &Shared,
    state: &State,
    config: &serde_json::Value,
    credentials: &[EnvironmentCredential],
) -> Result<Draft, LoadError> {
    let mut draft = Draft::default();
    if credentials.is_empty() {
        return Ok(draft);
    }
    let config: EnvironmentConfig =
        serde_json::from_value(config.clone()).map_err(crate::load::unreadable("environment"))?;
    let EnvironmentConfig::Cloud(cloud) = config else {
        return Ok(draft);
    };
    for credential in credentials {
        let reported = state.unreachable.contains(&credential.credential_id);
        if let Some(host) = beyond(&cloud.networking, &credential.hosts)
            && !reported
        {
            let error = SessionError {
                credential_id: Some(credential.credential_id.clone()),
                vault_id: Some(credential.vault_id.clone()),
                ..SessionError::new(
                    SessionErrorKind::CredentialHostUnreachable,
                    format!(
                        "The environment's networking does not permit {host}, where the \
                         credential for {} is to be used.",
                        credential.name
                    ),
                    RetryStatus::Retrying,
                )
            };
            draft.push(
                shared.ids.next(),
                EventBody::Error(SessionErrorEvent { error }),
            );
        }
    }
    Ok(draft)
}

/// The first of the credential's hosts that is out of reach.
fn beyond<'a>(networking: &Networking, hosts: &'a CredentialNetworking) -> Option<&'a str> {
    match hosts {
        CredentialNetworking::Unrestricted => None,
        CredentialNetworking::Limited(hosts) => hosts
            .allowed_hosts
            .iter()
            .map(String::as_str)
            .find(|host| !networking.permits(host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_belongs_to_a_session_and_a_name() {
        let (a, b): (SessionId, SessionId) = ("sesn_a".parse().unwrap(), "sesn_b".parse().unwrap());
        let made = placeholder(&a, "KEY");
        assert_eq!(made, placeholder(&a, "KEY"));
        assert_ne!(made, placeholder(&b, "KEY"));
        assert_ne!(made, placeholder(&a, "KEY2"));
        assert!(made.bytes().all(|c| c.is_ascii_alphanumeric()), "{made}");
    }
}

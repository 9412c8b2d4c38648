//! OpenID Connect: discovery, the authorization code flow with PKCE, and the checks of the ID token. Built with the
//! cargo
//! feature `oidc`; without it [`connect_provider`] says so.

#[cfg(feature = "oidc")]
mod adapter;

#[cfg(feature = "oidc")]
pub use adapter::connect_provider;

/// Invalid provider settings.
#[derive(Debug, thiserror::Error)]
pub enum OidcSetUpError {
    /// Not supported by this build.
    #[error("oidc.issuer is set, but this Herald was built without the cargo feature `oidc`")]
    NotBuilt,
    /// The issuer.
    #[error("oidc.issuer must be an https URL")]
    Issuer,
    /// The client.
    #[error("failed to prepare the connection to the provider")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Prepares the provider with this issuer for a client; responses go to `callback`. Makes no call.
///
/// # Errors
/// [`OidcSetUpError::NotBuilt`].
#[cfg(not(feature = "oidc"))]
pub fn connect_provider(
    _issuer: &url::Url,
    _client: (&str, &secrecy::SecretString),
    _callback: &url::Url,
) -> Result<std::sync::Arc<dyn super::provider_log_in::LogInProvider>, OidcSetUpError> {
    Err(OidcSetUpError::NotBuilt)
}

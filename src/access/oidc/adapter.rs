//! The adapter for OpenID Connect providers: responses have a size limit, redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use openidconnect::core::{
    CoreAuthPrompt, CoreAuthenticationFlow, CoreClient, CoreJwsSigningAlgorithm, CoreProviderMetadata,
};
use openidconnect::{
    AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse, IssuerUrl, Nonce,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse,
};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::OidcSetUpError;
use crate::access::provider_log_in::{LogInProvider, ProviderAnswer, ProviderError, Redirect};
use crate::domain::clock::Timestamp;

/// How long a call to the provider may take.
const CALL_TIME: Duration = Duration::from_secs(10);
/// Maximum response size in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// How long the provider's metadata and keys are cached.
const DESCRIPTION_STAYS: TimeDelta = TimeDelta::minutes(5);

/// A provider, reached over HTTP.
struct Oidc {
    http: reqwest::Client,
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: Option<ClientSecret>,
    callback: RedirectUrl,
    description: Mutex<Option<(Timestamp, CoreProviderMetadata)>>,
}

/// Prepares the provider with this issuer for a client; responses go to `callback`. Makes no call.
///
/// # Errors
/// [`OidcSetUpError`]; retrying does not help.
pub fn connect_provider(
    issuer: &Url,
    (client_id, client_secret): (&str, &SecretString),
    callback: &Url,
) -> Result<Arc<dyn LogInProvider>, OidcSetUpError> {
    let is_local = matches!(issuer.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if issuer.scheme() != "https" && !is_local {
        return Err(OidcSetUpError::Issuer);
    }
    let http = reqwest::Client::builder()
        .timeout(CALL_TIME)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("herald/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| OidcSetUpError::Connection(error.into()))?;
    let secret = client_secret.expose_secret();
    // A URL without a path ends with a slash here, but not in the issuer.
    let issuer = issuer.as_str().trim_end_matches('/').to_owned();
    Ok(Arc::new(Oidc {
        http,
        issuer: IssuerUrl::new(issuer).map_err(|error| OidcSetUpError::Connection(error.into()))?,
        client_id: ClientId::new(client_id.to_owned()),
        client_secret: (!secret.is_empty()).then(|| ClientSecret::new(secret.to_owned())),
        callback: RedirectUrl::from_url(callback.clone()),
        description: Mutex::new(None),
    }))
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no response")]
    NoAnswer(#[from] reqwest::Error),
    #[error("an invalid response")]
    Unusable,
}

async fn call(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, CallError> {
    let mut response = http.execute(request.try_into()?).await?;
    let mut built = openidconnect::http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        built = built.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(CallError::Unusable);
        }
        body.extend_from_slice(&chunk);
    }
    built.body(body).map_err(|_| CallError::Unusable)
}

/// An error message without quoted values.
fn unusable(what: &str) -> ProviderError {
    ProviderError::Unusable(what.to_owned())
}

fn bad(what: &str) -> ProviderError {
    ProviderError::BadAnswer(what.to_owned())
}

impl Oidc {
    async fn description(&self, now: Timestamp) -> Result<CoreProviderMetadata, ProviderError> {
        let known = self.description.lock().clone();
        if let Some((at, known)) = known
            && at + DESCRIPTION_STAYS > now
        {
            return Ok(known);
        }
        let http = |request| call(self.http.clone(), request);
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &http).await;
        let found = found.map_err(|error| {
            tracing::warn!(%error, "the login provider's configuration could not be loaded");
            unusable("its configuration could not be loaded; see the log")
        })?;
        *self.description.lock() = Some((now, found.clone()));
        Ok(found)
    }
}

#[async_trait]
impl LogInProvider for Oidc {
    async fn redirect(&self, again: bool, now: Timestamp) -> Result<Redirect, ProviderError> {
        let description = self.description(now).await?;
        let client = CoreClient::from_provider_metadata(
            description,
            self.client_id.clone(),
            self.client_secret.clone(),
        )
        .set_redirect_uri(self.callback.clone());
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge);
        if again {
            request = request.add_prompt(CoreAuthPrompt::Login).set_max_age(Duration::ZERO);
        }
        let (url, state, nonce) = request.url();
        Ok(Redirect {
            url,
            state: SecretString::from(state.secret().clone()),
            nonce: SecretString::from(nonce.secret().clone()),
            verifier: SecretString::from(verifier.secret().clone()),
        })
    }

    async fn answer(
        &self,
        code: &str,
        nonce: &SecretString,
        verifier: &SecretString,
        now: Timestamp,
    ) -> Result<ProviderAnswer, ProviderError> {
        let description = self.description(now).await?;
        let client = CoreClient::from_provider_metadata(
            description,
            self.client_id.clone(),
            self.client_secret.clone(),
        )
        .set_redirect_uri(self.callback.clone());
        let http = |request| call(self.http.clone(), request);
        let response = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|_| unusable("it has no token endpoint"))?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose_secret().to_owned()))
            .request_async(&http)
            .await
            .map_err(|_| bad("it rejected the code"))?;
        let token = response.id_token().ok_or_else(|| bad("it has no ID token"))?;
        // Only signatures with a published key are accepted: no shared secrets, no `none`.
        let verifier = client.id_token_verifier().set_time_fn(move || now).set_allowed_algs([
            CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
            CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
            CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
            CoreJwsSigningAlgorithm::RsaSsaPssSha256,
            CoreJwsSigningAlgorithm::EcdsaP256Sha256,
            CoreJwsSigningAlgorithm::EcdsaP384Sha384,
            CoreJwsSigningAlgorithm::EdDsa,
        ]);
        let claims =
            token.claims(&verifier, &Nonce::new(nonce.expose_secret().to_owned())).map_err(|error| {
                tracing::warn!(%error, "the login provider's token was rejected");
                bad("its token was rejected; see the log")
            })?;
        Ok(ProviderAnswer {
            account: format!("{} {}", claims.issuer().as_str(), claims.subject().as_str()),
            email: claims.email().map(|email| email.to_string()),
            email_verified: claims.email_verified().unwrap_or(false),
            name: claims.name().and_then(|name| name.get(None)).map(|name| name.to_string()),
            authenticated_at: claims.auth_time(),
        })
    }
}

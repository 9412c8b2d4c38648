//! Console login according to the settings.

use anyhow::{Context, bail};
use url::Url;

use crate::access::{OidcPolicy, Role, SessionTimes, TeamOptions, TrustedProxies, connect_provider};
use crate::config::Settings;
use crate::console::Provider;
use crate::domain::retry::delta;

/// The path of the provider's callback.
const CALLBACK: &str = "log-in/provider/callback";

/// Session lifetimes, and whether password login is enabled.
pub fn team_options(settings: &Settings) -> TeamOptions {
    let console = &settings.console;
    TeamOptions {
        times: SessionTimes { idle: delta(console.session_idle), max: delta(console.session_max_age) },
        password_log_in: console.password_log_in,
    }
}

/// Proxies whose client address header is trusted.
pub(super) fn proxies(settings: &Settings) -> anyhow::Result<TrustedProxies> {
    let console = &settings.console;
    TrustedProxies::parse(&console.trusted_proxies, &console.client_address_header)
        .context("invalid console.trusted_proxies or console.client_address_header")
}

/// The console's public URL.
pub(super) fn public_url(settings: &Settings) -> anyhow::Result<Option<Url>> {
    match settings.console.public_url.trim() {
        "" => Ok(None),
        text => {
            let url: Url =
                text.parse().context("console.public_url is not a URL such as https://herald.example.com")?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                bail!("console.public_url is not a URL such as https://herald.example.com");
            }
            Ok(Some(url))
        }
    }
}

/// The single sign-on provider, if configured.
pub(super) fn provider(settings: &Settings, public_url: Option<&Url>) -> anyhow::Result<Option<Provider>> {
    let oidc = &settings.oidc;
    if oidc.issuer.trim().is_empty() {
        if !settings.console.password_log_in {
            bail!("console.password_log_in is off, but oidc.issuer is not set: no one could log in");
        }
        return Ok(None);
    }
    if oidc.client_id.trim().is_empty() {
        bail!("oidc.issuer is set but oidc.client_id is not: register Herald with the provider and set it");
    }
    let Some(public_url) = public_url else {
        bail!("oidc.issuer is set but console.public_url is not: the provider sends browsers back there");
    };
    let issuer: Url =
        oidc.issuer.trim().parse().context("oidc.issuer is not a URL such as https://accounts.google.com")?;
    let callback = format!("{}/{CALLBACK}", public_url.as_str().trim_end_matches('/'));
    let callback = callback.parse().context("console.public_url can't be used as a redirect URL")?;
    let port = connect_provider(&issuer, (oidc.client_id.trim(), &oidc.client_secret), &callback)?;
    let default_role = match oidc.default_role.trim() {
        "" => None,
        word => {
            Some(Role::find(word).with_context(|| format!("oidc.default_role: there is no role `{word}`"))?)
        }
    };
    let domains = oidc.allowed_domains.split(',').map(str::trim).filter(|domain| !domain.is_empty());
    let policy = OidcPolicy { domains: domains.map(str::to_owned).collect(), default_role };
    Ok(Some(Provider { name: oidc.name.trim().to_owned(), port, policy }))
}

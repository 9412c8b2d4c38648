//! Authentication by bearer key.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::{Code, FieldError, Problem};
use crate::access::{Denied, Identity, Use};
use crate::catalog::{By, Rights};
use crate::domain::event::VisibleEvents;
use crate::telemetry::Sampled;

impl Api {
    /// The identity behind a request, if its key allows this use for all events.
    ///
    /// # Errors
    /// 401 without a valid key, 403 if its scopes don't allow it or it is limited to some events, 503 if the database
    /// is
    /// unavailable.
    pub(super) async fn allow(&self, headers: &HeaderMap, what: Use) -> Result<Arc<Identity>, Problem> {
        let (identity, visible) = self.allow_visible(headers, what).await?;
        if visible.is_everything() {
            return Ok(identity);
        }
        let denied = if visible.tests_only { Denied::TestKey } else { Denied::LimitedKey };
        Err(self.denial(&identity, what, denied))
    }

    /// The identity behind a request, if its key allows this use, and the events that it may access: the caller must
    /// not
    /// show or change any others.
    ///
    /// # Errors
    /// As for [`Api::allow`], except that keys limited to some events are allowed.
    pub(super) async fn allow_visible(
        &self,
        headers: &HeaderMap,
        what: Use,
    ) -> Result<(Arc<Identity>, VisibleEvents), Problem> {
        let identity = self.identify(headers).await?;
        match self.access.permit(&identity, what).await? {
            Ok(visible) => Ok((identity, visible)),
            Err(denied) => Err(self.denial(&identity, what, denied)),
        }
    }

    /// The identity behind a request.
    ///
    /// # Errors
    /// 401 without a valid key, 503 if the database is unavailable.
    async fn identify(&self, headers: &HeaderMap) -> Result<Arc<Identity>, Problem> {
        let key = bearer(headers).ok_or_else(|| {
            Problem::new(
                Code::Unauthorized,
                "send `Authorization: Bearer hk_…`; create a key with `herald keys create`",
            )
        })?;
        if let Some(identity) = self.access.identify(key).await? {
            return Ok(identity);
        }
        if let Some(count) = self.denials.unknown.count() {
            tracing::warn!(count, "{count} requests with an invalid, revoked or expired key were rejected");
        }
        Err(Problem::new(Code::Unauthorized, "the key is invalid, revoked or expired"))
    }

    /// Whether a caller may see event data that is part of another response.
    pub(super) async fn may_see_events(&self, identity: &Identity) -> Result<bool, Problem> {
        let permit = self.access.permit(identity, Use::ReadEvents).await?;
        Ok(permit.is_ok_and(|visible| visible.is_everything()))
    }

    fn denial(&self, identity: &Identity, what: Use, denied: Denied) -> Problem {
        if let Some(count) = self.denials.forbidden.count() {
            let key = identity.key;
            tracing::warn!(
                key.id = %key, permission = ?what, count,
                "key {key} was denied {what:?} ({denied:?}); {count} denials since the last such line"
            );
        }
        match denied {
            Denied::MissingScope(scope) => {
                Problem::new(Code::MissingScope, format!("the key lacks the scope `{}`", scope.as_str()))
            }
            Denied::TestKey => Problem::new(
                Code::TestKey,
                "a test key can't do this while a live app exists: use a live key",
            ),
            Denied::LimitedKey => Problem::new(
                Code::LimitedKey,
                "the key is limited to the events of some sources, but this also affects others",
            ),
        }
    }
}

/// Denials, counted so that a flood is logged as one line per second.
#[derive(Debug, Default)]
pub struct Denials {
    unknown: Sampled,
    forbidden: Sampled,
    pub(super) streams: Sampled,
}

/// Requires a valid key before revealing anything else about a request. Webhooks are signed and Event Streams have a
/// secret instead, and health checks need no key.
pub(super) async fn require_key(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path.starts_with("/v1/")
        && !path.starts_with("/v1/hooks/")
        && path != "/v1/onesignal/events"
        && let Err(problem) = api.identify(request.headers()).await
    {
        return problem.into_response();
    }
    next.run(request).await
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Maximum length of a note, in characters.
const LONGEST_NOTE: usize = 1_000;

impl Identity {
    /// Limits on a catalog change: files can't extend what the key itself may post.
    fn rights(&self) -> Rights {
        let may = |what| self.may(what) && !self.is_limited();
        Rights {
            change_sources: may(Use::ChangeSource) && self.may_grant(None),
            change_apps: may(Use::ChangeApp),
            lift_approval: may(Use::LiftApproval),
            unmask_values: may(Use::UnmaskValues),
        }
    }

    /// Who makes a change and why, for the audit log.
    ///
    /// # Errors
    /// 422 for a note that is too long or contains terminal control characters.
    pub(super) fn by<'a>(&'a self, note: &'a str) -> Result<By<'a>, Problem> {
        let is_trick =
            |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if note.chars().count() > LONGEST_NOTE || note.chars().any(is_trick) {
            let detail = format!("a note must be one line of at most {LONGEST_NOTE} characters");
            return Err(Problem::fields(
                Code::InvalidFields,
                vec![FieldError::new("/note", "invalid", detail)],
            ));
        }
        Ok(By { actor: &self.source_name, note, key: Some(self.key), rights: self.rights() })
    }
}

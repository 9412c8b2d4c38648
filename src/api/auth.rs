//! Who is asking: the bearer key of a request.

use std::sync::Arc;

use axum::http::{HeaderMap, header};

use super::Api;
use super::problem::{Code, FieldError, Problem};
use crate::access::{Identity, Use};
use crate::catalog::By;

impl Api {
    /// The identity behind a request, if its key allows this use.
    ///
    /// # Errors
    /// 401 without a valid key, 403 if its scopes don't allow it, 503 if the database is away.
    pub(super) async fn allow(&self, headers: &HeaderMap, what: Use) -> Result<Arc<Identity>, Problem> {
        let key = bearer(headers).ok_or_else(|| {
            Problem::new(
                Code::Unauthorized,
                "send `Authorization: Bearer hk_…`; `herald keys create` makes a key",
            )
        })?;
        let identity = self
            .access
            .identify(key)
            .await?
            .ok_or_else(|| Problem::new(Code::Unauthorized, "the key is wrong or revoked"))?;
        if identity.may(what) {
            return Ok(identity);
        }
        let scope = what.needs().as_str();
        Err(Problem::new(Code::MissingScope, format!("the key lacks the scope `{scope}`")))
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Characters of a note at most.
const LONGEST_NOTE: usize = 1_000;

impl Identity {
    /// Who changes something and why, for the record of changes.
    ///
    /// # Errors
    /// 422 for a note that is too long, or that would play tricks on a terminal.
    pub(super) fn by<'a>(&'a self, note: &'a str) -> Result<By<'a>, Problem> {
        let is_trick =
            |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if note.chars().count() > LONGEST_NOTE || note.chars().any(is_trick) {
            let detail = format!("a note is one line of at most {LONGEST_NOTE} characters");
            return Err(Problem::fields(
                Code::InvalidFields,
                vec![FieldError::new("/note", "invalid", detail)],
            ));
        }
        Ok(By { actor: &self.source_name, note })
    }
}

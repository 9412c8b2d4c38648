//! Who is asking: the bearer key of a request.

use std::sync::Arc;

use axum::http::{HeaderMap, header};

use super::Api;
use super::problem::{Code, Problem};
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

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

impl Identity {
    /// Who changes something, for the record of changes.
    pub(super) fn by<'a>(&'a self, note: &'a str) -> By<'a> {
        By { actor: &self.source_name, note }
    }
}

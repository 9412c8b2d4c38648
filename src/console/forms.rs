//! Reading forms: what a browser sends, with words for what it can't have sent.

use axum::body::{Body, to_bytes};
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// Bytes of a form at most: a template's copy with room to spare.
const MAX_BYTES: usize = 2 * 1_024 * 1_024;

/// Reads a form.
///
/// # Errors
/// [`Failure::Invalid`] for what is too large or no form.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let bytes = to_bytes(body, MAX_BYTES)
        .await
        .map_err(|_| Failure::Invalid("The form is larger than 2 MiB.".to_owned()))?;
    serde_urlencoded::from_bytes(&bytes)
        .map_err(|error| Failure::Invalid(format!("The form can't be read: {error}.")))
}

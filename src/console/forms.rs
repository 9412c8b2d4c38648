//! Reading forms: what a browser sends, with words for what it can't have sent.

use axum::body::{Body, to_bytes};
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// Reads a form, whose size and time the guard has bounded.
///
/// # Errors
/// [`Failure::Invalid`] for what is no form.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let bytes = to_bytes(body, usize::MAX)
        .await
        .map_err(|_| Failure::Invalid("The form was incomplete.".to_owned()))?;
    serde_urlencoded::from_bytes(&bytes).map_err(|error| Failure::Invalid(format!("Invalid form: {error}.")))
}

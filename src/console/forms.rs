//! Parsing forms.

use axum::body::{Body, to_bytes};
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// Parses a form, whose size and time the guard has limited.
///
/// # Errors
/// [`Failure::Invalid`] if it is not a form.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let bytes = to_bytes(body, usize::MAX)
        .await
        .map_err(|_| Failure::Invalid("The form was incomplete.".to_owned()))?;
    serde_urlencoded::from_bytes(&bytes).map_err(|error| Failure::Invalid(format!("Invalid form: {error}.")))
}

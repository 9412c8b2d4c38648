//! Static assets: embedded in the binary, with content hashes in their names.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use crate::vault::sha256;

/// Every asset: name, type, bytes.
const ASSETS: [(&str, &str, &[u8]); 6] = [
    ("console.css", "text/css; charset=utf-8", include_bytes!("assets/console.css")),
    ("console.js", "text/javascript; charset=utf-8", include_bytes!("assets/console.js")),
    ("editor.min.js", "text/javascript; charset=utf-8", include_bytes!("assets/editor.min.js")),
    ("htmx.min.js", "text/javascript; charset=utf-8", include_bytes!("assets/htmx.min.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ("mail-frame.js", "text/javascript; charset=utf-8", include_bytes!("assets/mail-frame.js")),
];

/// The address of each asset, in the same order.
static URLS: LazyLock<Vec<String>> = LazyLock::new(|| {
    ASSETS
        .iter()
        .map(|(name, _, bytes)| {
            let hash = sha256(bytes).iter().take(6).fold(0_u64, |hash, byte| (hash << 8) | u64::from(*byte));
            format!("/assets/{hash:012x}-{name}")
        })
        .collect()
});

/// An asset's address.
pub(super) fn url(name: &str) -> &'static str {
    let place = ASSETS.iter().position(|(known, ..)| *known == name);
    place.and_then(|place| URLS.get(place)).map_or("/assets/missing", String::as_str)
}

/// Serves an asset. Its name contains its hash, so browsers may cache it forever.
pub(super) async fn serve(Path(asked): Path<String>) -> Result<Response, Failure> {
    let place = URLS.iter().position(|url| url.strip_prefix("/assets/") == Some(asked.as_str()));
    let Some((_, kind, bytes)) = place.and_then(|place| ASSETS.get(place)) else {
        return Err(Failure::NotFound("File not found.".to_owned()));
    };
    let headers =
        [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, *bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asset_has_an_address_of_its_own() {
        for (name, ..) in ASSETS {
            assert!(url(name).ends_with(name) && url(name).len() > name.len() + 10, "{}", url(name));
        }
        assert_eq!(url("nothing"), "/assets/missing");
    }
}

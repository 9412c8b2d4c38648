//! What a browser is sent: headers, cookies, redirects, frames and links.

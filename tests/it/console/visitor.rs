//! Someone with a browser of their own: cookies are kept, redirects are followed by hand.

use std::collections::BTreeMap;

use herald::access::{Client, NewMember, Role};
use parking_lot::Mutex;
use reqwest::{Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};

use crate::support::app::TestApp;

/// A password that is good enough.
pub const PASSWORD: &str = "correct horse battery staple";

/// An answer as the browser has it.
pub struct Seen {
    pub status: StatusCode,
    pub location: Option<String>,
    pub headers: header::HeaderMap,
    pub text: String,
}

/// Someone with a browser.
pub struct Visitor {
    http: reqwest::Client,
    url: String,
    cookies: Mutex<BTreeMap<String, String>>,
    headers: Vec<(&'static str, String)>,
}

/// This machine, for what is done without a browser.
pub fn here() -> Client<'static> {
    Client::at(std::net::Ipv4Addr::LOCALHOST.into())
}

impl Visitor {
    /// No one in particular.
    pub fn stranger(app: &TestApp) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        Self {
            http: http.expect("a client"),
            url: app.url.clone(),
            cookies: Mutex::default(),
            headers: Vec::new(),
        }
    }

    /// The same browser, with a header on every request.
    pub fn sending(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Someone of the team with this role, logged in.
    pub async fn with_role(app: &TestApp, role: Role) -> Self {
        let email = Self::member(app, role).await;
        let visitor = Self::stranger(app);
        let seen = visitor.log_in(&email, PASSWORD).await;
        assert_eq!(seen.location.as_deref(), Some("/"), "{}", seen.text);
        visitor
    }

    /// Enters someone with this role and [`PASSWORD`]; returns the address.
    pub async fn member(app: &TestApp, role: Role) -> String {
        let email = format!("{}@shop.example", role.as_str());
        let new = NewMember { email: &email, name: role.as_str(), role };
        let token = app.herald.team.invite("test", new).await.expect("invited");
        app.herald
            .team
            .accept(token.expose_secret(), SecretString::from(PASSWORD), &here())
            .await
            .expect("a password");
        email
    }

    pub async fn log_in(&self, email: &str, password: &str) -> Seen {
        self.post("/log-in", &[("email", email), ("password", password)]).await
    }

    pub async fn get(&self, path: &str) -> Seen {
        self.get_with(path, &[]).await
    }

    /// Asks for a page with these headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Seen {
        let mut request = self.http.request(Method::GET, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// Sends a form, from a page of the console.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Seen {
        self.post_from(path, form, &[("sec-fetch-site", "same-origin")]).await
    }

    /// Sends a form with these headers.
    pub async fn post_from(&self, path: &str, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Seen {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let mut request = self
            .http
            .request(Method::POST, format!("{}{path}", self.url))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.finish());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> Seen {
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let cookies: Vec<String> =
            self.cookies.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = request.header(header::COOKIE, cookies.join("; ")).send().await.expect("an answer");
        for value in response.headers().get_all(header::SET_COOKIE) {
            let text = value.to_str().expect("text");
            let (name, value) =
                text.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            if text.contains("Max-Age=0") {
                self.cookies.lock().remove(name);
            } else {
                self.cookies.lock().insert(name.to_owned(), value.to_owned());
            }
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Seen { status, location, headers, text: response.text().await.expect("text") }
    }

    /// The session's token.
    pub fn token(&self) -> Option<String> {
        self.cookie("herald")
    }

    /// What a cookie holds.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().get(name).cloned()
    }

    /// Puts a cookie into the browser.
    pub fn keep(&self, name: &str, value: &str) {
        self.cookies.lock().insert(name.to_owned(), value.to_owned());
    }

    /// Takes a cookie out of the browser.
    pub fn forget(&self, name: &str) {
        self.cookies.lock().remove(name);
    }
}

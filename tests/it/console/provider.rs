//! Logging in through an OpenID Connect provider: a small one, on this machine, that signs its tokens and can be made to
//! answer wrongly.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herald::domain::clock::Clock;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use url::Url;

use super::second_factor::set_up;
use super::visitor::{PASSWORD, Seen};
use super::*;
use crate::support::app::Wanted;

const ORIGIN: &str = "http://herald.test";

/// A code that was given out, with what it stands for.
struct Given {
    nonce: String,
    challenge: String,
}

/// The provider.
struct Provider {
    url: String,
    key: EcdsaKeyPair,
    other_key: EcdsaKeyPair,
    given: Mutex<HashMap<String, Given>>,
    /// What stands in the next token instead of what should.
    claims: Mutex<Value>,
    /// The algorithm that the next token names.
    algorithm: Mutex<&'static str>,
    /// Whether the next token is signed with a key that no one published.
    is_forged: Mutex<bool>,
    /// What was asked at the token endpoint.
    asked: Mutex<Vec<BTreeMap<String, String>>>,
}

type This = State<Arc<Provider>>;

fn fresh_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key")
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Provider {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let provider = Arc::new(Self {
            url,
            key: fresh_key(),
            other_key: fresh_key(),
            given: Mutex::default(),
            claims: Mutex::new(json!({})),
            algorithm: Mutex::new("ES256"),
            is_forged: Mutex::new(false),
            asked: Mutex::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(describe))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(Arc::clone(&provider));
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    /// What someone does there: logs in, and is given a code.
    fn approve(&self, page: &Url) -> (String, String) {
        let asked: HashMap<String, String> = page.query_pairs().into_owned().collect();
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], "herald");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(asked["redirect_uri"], format!("{ORIGIN}/log-in/provider/callback"));
        assert!(asked["scope"].contains("openid") && asked["scope"].contains("email"));
        let code = format!("code-{}", asked["nonce"]);
        let given = Given { nonce: asked["nonce"].clone(), challenge: asked["code_challenge"].clone() };
        self.given.lock().insert(code.clone(), given);
        (code, asked["state"].clone())
    }

    fn id_token(&self, nonce: &str, now: i64) -> String {
        let mut claims = json!({
            "iss": self.url, "aud": "herald", "sub": "1", "nonce": nonce, "iat": now, "exp": now + 300,
            "auth_time": now, "email": "Anna@shop.example", "email_verified": true, "name": "Anna Lindt",
        });
        for (name, value) in self.claims.lock().as_object().expect("claims") {
            claims[name] = value.clone();
        }
        let algorithm = *self.algorithm.lock();
        let header = json!({"alg": algorithm, "kid": "1", "typ": "JWT"});
        let signed =
            format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        if algorithm == "none" {
            return format!("{signed}.");
        }
        let key = if *self.is_forged.lock() { &self.other_key } else { &self.key };
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", base64(signature.as_ref()))
    }
}

async fn describe(State(provider): This) -> Json<Value> {
    let url = &provider.url;
    Json(json!({
        "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/keys"), "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256", "none"],
    }))
}

async fn keys(State(provider): This) -> Json<Value> {
    // An uncompressed point: 4, then x and y.
    let point = provider.key.public_key().as_ref();
    Json(json!({"keys": [{
        "kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "alg": "ES256",
        "x": base64(&point[1..33]), "y": base64(&point[33..65]),
    }]}))
}

async fn token(
    State(provider): This,
    Form(asked): Form<BTreeMap<String, String>>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    provider.asked.lock().push(asked.clone());
    let refused = || (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"})));
    let given = provider.given.lock().remove(&asked["code"]).ok_or_else(refused)?;
    let verifier = asked.get("code_verifier").ok_or_else(refused)?;
    if base64(digest(&SHA256, verifier.as_bytes()).as_ref()) != given.challenge {
        return Err(refused());
    }
    let now = crate::support::app::start_of_time().timestamp();
    let id_token = provider.id_token(&given.nonce, now);
    Ok(Json(json!({"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": id_token})))
}

/// A Herald that knows this provider.
async fn herald_with(provider: &Provider, more: &[(&'static str, &str)]) -> TestApp {
    let mut settings = vec![
        ("HERALD_CONSOLE__PUBLIC_URL", ORIGIN.to_owned()),
        ("HERALD_OIDC__ISSUER", provider.url.clone()),
        ("HERALD_OIDC__CLIENT_ID", "herald".to_owned()),
        ("HERALD_OIDC__CLIENT_SECRET", "the-client-secret".to_owned()),
        ("HERALD_OIDC__NAME", "Shop accounts".to_owned()),
    ];
    settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    TestApp::start_with(Wanted { settings, ..Wanted::default() }).await
}

fn browser(app: &TestApp) -> Visitor {
    Visitor::stranger(app).sending("origin", ORIGIN)
}

/// Invites Anna.
async fn invite(app: &TestApp, role: Role) {
    let new = herald::access::NewMember { email: "anna@shop.example", name: "Anna", role };
    app.herald.team.invite("test", new).await.expect("invited");
}

/// Follows the button to the provider: the page that the browser is sent to.
async fn to_provider(visitor: &Visitor, form: &[(&str, &str)]) -> Url {
    let seen = visitor.post("/log-in/provider", form).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    let place = seen.text.split("content=\"0;url=").nth(1).and_then(|rest| rest.split('"').next());
    place.expect("a place to go").replace("&amp;", "&").parse().expect("an address")
}

async fn back(visitor: &Visitor, code: &str, state: &str) -> Seen {
    let foreign = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    visitor.get_with(&format!("/log-in/provider/callback?code={code}&state={state}"), &foreign).await
}

/// Goes to the provider and back.
async fn log_in(provider: &Provider, visitor: &Visitor, next: &str) -> Seen {
    let page = to_provider(visitor, &[("next", next)]).await;
    let (code, state) = provider.approve(&page);
    back(visitor, &code, &state).await
}

#[tokio::test]
async fn a_member_logs_in_and_comes_to_the_page_that_they_wanted() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    let _admin = Visitor::member(&app, Role::Admin).await;
    invite(&app, Role::Editor).await;
    let anna = browser(&app);
    assert!(anna.get("/log-in").await.text.contains("Log in with Shop accounts"));
    let seen = log_in(&provider, &anna, "/rules").await;
    assert!(seen.status == 200 && seen.text.contains("0;url=/rules"), "{}", seen.text);
    assert!(anna.get("/rules").await.text.contains("editor"));
    let asked = provider.asked.lock().clone();
    assert!(asked[0].contains_key("code_verifier") && asked[0]["grant_type"] == "authorization_code");
    assert!(app.dump().await.find("the-client-secret").is_none());
}

/// One wrong answer: no one is logged in by it.
async fn refuses(change: impl FnOnce(&Provider), status: u16) {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    invite(&app, Role::Editor).await;
    change(&provider);
    let anna = browser(&app);
    let seen = log_in(&provider, &anna, "/").await;
    assert_eq!(seen.status, status, "{}", seen.text);
    assert!(anna.token().is_none() && app.sql::<i64>("SELECT count(*) FROM sessions").await == 0);
}

#[tokio::test]
async fn a_token_with_another_nonce_is_refused() {
    refuses(|provider| *provider.claims.lock() = json!({"nonce": "another"}), 502).await;
}

#[tokio::test]
async fn a_token_that_is_over_is_refused() {
    refuses(|provider| *provider.claims.lock() = json!({"exp": 1_700_000_000}), 502).await;
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused() {
    refuses(|provider| *provider.claims.lock() = json!({"aud": "another-client"}), 502).await;
}

#[tokio::test]
async fn a_token_of_another_issuer_is_refused() {
    refuses(|provider| *provider.claims.lock() = json!({"iss": "https://evil.example"}), 502).await;
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    refuses(|provider| *provider.algorithm.lock() = "none", 502).await;
}

#[tokio::test]
async fn a_token_signed_with_a_shared_secret_is_refused() {
    refuses(|provider| *provider.algorithm.lock() = "HS256", 502).await;
}

#[tokio::test]
async fn a_token_signed_with_another_key_is_refused() {
    refuses(|provider| *provider.is_forged.lock() = true, 502).await;
}

#[tokio::test]
async fn an_address_that_is_not_verified_is_refused() {
    refuses(|provider| *provider.claims.lock() = json!({"email_verified": false}), 403).await;
    refuses(|provider| *provider.claims.lock() = json!({"email_verified": null}), 403).await;
}

#[tokio::test]
async fn somebody_who_is_not_in_the_team_is_refused() {
    refuses(|provider| *provider.claims.lock() = json!({"email": "eve@shop.example"}), 403).await;
}

#[tokio::test]
async fn an_answer_with_another_state_or_in_another_browser_is_refused() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    invite(&app, Role::Editor).await;
    let (anna, eve) = (browser(&app), browser(&app));
    let page = to_provider(&anna, &[]).await;
    let (code, state) = provider.approve(&page);
    assert_eq!(back(&anna, &code, "another-state").await.status, 422);
    let page = to_provider(&anna, &[]).await;
    let (code, state_of_anna) = provider.approve(&page);
    assert_eq!(back(&eve, &code, &state_of_anna).await.status, 422, "Eve's browser began nothing");
    to_provider(&eve, &[]).await;
    assert_eq!(back(&eve, &code, &state_of_anna).await.status, 422, "nor what Anna's began");
    assert_ne!(state, state_of_anna);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM sessions").await, 0);
    assert!(provider.asked.lock().is_empty(), "no code was spent");
}

#[tokio::test]
async fn an_answer_is_good_once() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    invite(&app, Role::Editor).await;
    let anna = browser(&app);
    let page = to_provider(&anna, &[]).await;
    let (code, state) = provider.approve(&page);
    let kept = anna.cookie("herald_provider").unwrap();
    assert_eq!(back(&anna, &code, &state).await.status, 200);
    anna.keep("herald_provider", &kept);
    assert_eq!(back(&anna, &code, &state).await.status, 422);
    // A code that was spent, in a log-in that is good otherwise.
    let page = to_provider(&anna, &[]).await;
    let (_, state) = provider.approve(&page);
    assert_eq!(back(&anna, &code, &state).await.status, 502);
}

#[tokio::test]
async fn a_log_in_at_the_provider_is_over_after_ten_minutes() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    invite(&app, Role::Editor).await;
    let anna = browser(&app);
    let page = to_provider(&anna, &[]).await;
    let (code, state) = provider.approve(&page);
    app.clock.advance(Duration::from_mins(11));
    assert_eq!(back(&anna, &code, &state).await.status, 422);
}

#[tokio::test]
async fn other_domains_and_deactivated_members_are_refused() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[("HERALD_OIDC__ALLOWED_DOMAINS", "other.example")]).await;
    invite(&app, Role::Editor).await;
    assert_eq!(log_in(&provider, &browser(&app), "/").await.status, 403);
    let app =
        herald_with(&provider, &[("HERALD_OIDC__ALLOWED_DOMAINS", "other.example, Shop.example")]).await;
    invite(&app, Role::Editor).await;
    assert_eq!(log_in(&provider, &browser(&app), "/").await.status, 200);
    app.herald.team.change("test", "anna@shop.example", None, Some(true)).await.unwrap();
    assert_eq!(log_in(&provider, &browser(&app), "/").await.status, 403);
}

#[tokio::test]
async fn a_member_is_known_by_the_account_whatever_its_address_and_not_by_the_address_alone() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    let _admin = Visitor::member(&app, Role::Admin).await;
    invite(&app, Role::Editor).await;
    assert_eq!(log_in(&provider, &browser(&app), "/").await.status, 200);
    *provider.claims.lock() = json!({"email": "anna.lindt@shop.example"});
    assert_eq!(log_in(&provider, &browser(&app), "/").await.status, 200, "she has another address now");
    *provider.claims.lock() = json!({"sub": "2"});
    let other = log_in(&provider, &browser(&app), "/").await;
    assert_eq!(other.status, 403, "her first address was given to somebody else");
    for is_disabled in [true, false] {
        app.herald.team.change("test", "anna@shop.example", None, Some(is_disabled)).await.unwrap();
    }
    assert_eq!(log_in(&provider, &browser(&app), "/").await.status, 200, "an admin let the new account in");
}

#[tokio::test]
async fn new_people_are_entered_where_a_role_is_set_for_them() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[("HERALD_OIDC__DEFAULT_ROLE", "viewer")]).await;
    let _admin = Visitor::member(&app, Role::Admin).await;
    let anna = browser(&app);
    assert_eq!(log_in(&provider, &anna, "/").await.status, 200);
    let page = anna.get("/").await.text;
    assert!(page.contains("Anna Lindt") && page.contains("viewer"), "{page}");
    let actor: String = app.sql("SELECT actor FROM audit_log WHERE subject = 'anna@shop.example'").await;
    assert_eq!(actor, "oidc");
}

#[tokio::test]
async fn a_second_factor_that_somebody_set_up_is_asked_for_here_too() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    invite(&app, Role::Editor).await;
    let anna = browser(&app);
    let again = [("next", "/settings/second-factor"), ("again", "yes")];
    let page = to_provider(&anna, &again).await;
    let (code, state) = provider.approve(&page);
    back(&anna, &code, &state).await;
    let (authenticator, _) = set_up(&app, &anna).await;
    app.clock.advance(Duration::from_mins(1));
    let other = browser(&app);
    let seen = log_in(&provider, &other, "/rules").await;
    assert!(seen.text.contains("0;url=/log-in/code?next=%2Frules"), "{}", seen.text);
    assert!(other.token().is_none());
    let code = authenticator.code(&app);
    assert_eq!(other.post("/log-in/code", &[("code", &code), ("next", "/rules")]).await.status, 303);
}

#[tokio::test]
async fn keys_are_managed_after_a_fresh_log_in_at_the_provider_alone() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    invite(&app, Role::Admin).await;
    let anna = browser(&app);
    log_in(&provider, &anna, "/").await;
    assert_eq!(
        anna.get("/settings/keys").await.status,
        303,
        "the provider may have let a stranger pass by itself"
    );
    assert!(anna.get("/confirm?next=/settings/keys").await.text.contains("Log in with Shop accounts"));
    let again = [("next", "/settings/keys"), ("again", "yes")];
    let page = to_provider(&anna, &again).await;
    let asked: HashMap<String, String> = page.query_pairs().into_owned().collect();
    assert_eq!((asked["prompt"].as_str(), asked["max_age"].as_str()), ("login", "0"));
    let now = app.clock.now().timestamp();
    *provider.claims.lock() = json!({"auth_time": now - 3_600});
    let (code, state) = provider.approve(&page);
    back(&anna, &code, &state).await;
    assert_eq!(anna.get("/settings/keys").await.status, 303, "an hour ago is not fresh");
    *provider.claims.lock() = json!({"auth_time": now});
    let page = to_provider(&anna, &again).await;
    let (code, state) = provider.approve(&page);
    back(&anna, &code, &state).await;
    assert_eq!(anna.get("/settings/keys").await.status, 200);
}

#[tokio::test]
async fn passwords_can_be_switched_off_and_the_first_admin_still_comes_in() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[("HERALD_CONSOLE__PASSWORD_LOG_IN", "false")]).await;
    let token = app.herald.team.offer_set_up().await.unwrap().unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    let first = browser(&app);
    let form =
        [("token", token.as_str()), ("name", "Mia"), ("email", "mia@shop.example"), ("password", PASSWORD)];
    assert_eq!(first.post("/set-up", &form).await.status, 303);
    let other = browser(&app);
    assert!(!other.get("/log-in").await.text.contains("name=\"password\""));
    assert_eq!(other.log_in("mia@shop.example", PASSWORD).await.status, 403);
    invite(&app, Role::Editor).await;
    let link = app.herald.team.new_link("test", "anna@shop.example").await.unwrap();
    let form = [("token", secrecy::ExposeSecret::expose_secret(&link)), ("password", PASSWORD)];
    assert_eq!(other.post("/welcome", &form).await.status, 422);
    assert_eq!(log_in(&provider, &other, "/").await.status, 200);
}

#[tokio::test]
async fn a_log_in_that_the_provider_rejects_is_distinguished_from_a_fault_and_its_message_is_not_repeated() {
    let provider = Provider::start().await;
    let app = herald_with(&provider, &[]).await;
    let anna = browser(&app);
    to_provider(&anna, &[]).await;
    let seen = anna.get("/log-in/provider/callback?error=%3Cb%3Eaccess_denied&state=x").await;
    assert!(seen.status == 422 && seen.text.contains("did not log you in"), "{}", seen.text);
    assert!(!seen.text.contains("access_denied"));
}

//! Each sender's published examples, and what must not hold.

use super::*;
use crate::webhooks::WebhookSettings;

fn webhook(settings: &str) -> Auth {
    let webhook: WebhookSettings = toml::from_str(settings).unwrap();
    webhook.auth().unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What a way of signing says to a call with this body at this second.
fn verify(
    auth: &Auth,
    named: &[(&str, &str)],
    (query, body): (&str, &[u8]),
    (secret, second): (&str, i64),
) -> Result<usize, Rejection> {
    let now = Timestamp::from_timestamp(second, 0).unwrap();
    let call = Call { headers: &headers(named), query, body, now };
    auth.verify(&call, &["another secret, 123".to_owned(), secret.to_owned()]).map(|signed| signed.secret)
}

/// `src/StripeTests/Services/Events/EventUtilityTest.cs` of Stripe's library for .NET.
const STRIPE_BODY: &str = r#"{
  "id": "evt_123",
  "object": "event",
  "account": "acct_123",
  "api_version": "2017-05-25",
  "created": 1533204620,
  "data": {
    "object": {
      "id": "cus_123",
      "object": "customer",
      "created": 123456789,
      "email": "test@stripe.com",
      "livemode": false,
      "metadata": {}
    }
  },
  "livemode": false,
  "pending_webhooks": 1,
  "request": {
    "id": "req_123",
    "idempotency_key": "idempotency-key-123"
  },
  "type": "customer.created"
}
"#;

#[test]
fn stripe_s_published_example_holds_with_any_of_several_signatures_within_its_window() {
    let stripe = webhook("scheme = \"stripe\"");
    let good = "2220f87ef101a04665f11cdf770523143f875572008577fa0f20882ddb9cc3c7";
    let at = |header: &str, second: i64, body: &str| {
        verify(&stripe, &[("stripe-signature", header)], ("", body.as_bytes()), ("webhook_secret", second))
    };
    let sent = 1_533_204_620;
    assert_eq!(at(&format!("t={sent},v1={good},v0=63f3"), sent + 100, STRIPE_BODY), Ok(1));
    let many = format!("t={sent},{},v1={good}", ["v1=00"; 40].join(","));
    assert_eq!(at(&many, sent, STRIPE_BODY), Ok(1));
    assert_eq!(at(&format!("t={sent},v1={good}"), sent + 301, STRIPE_BODY), Err(Rejection::TooOld));
    assert_eq!(at(&format!("t={sent},v1={good}"), sent - 301, STRIPE_BODY), Err(Rejection::TooEarly));
    assert_eq!(at(&format!("t={sent},v1={good}"), sent, "{}"), Err(Rejection::WrongSignature));
    for unreadable in ["t=,v1=00", "t,v1=", ",,", "", "v1=00", &format!("t={sent},v0={good}")] {
        assert_eq!(at(unreadable, sent, STRIPE_BODY), Err(Rejection::UnreadableSignature), "{unreadable}");
    }
    let body = serde_json::from_str(STRIPE_BODY).unwrap();
    assert_eq!(stripe.call_id(&Headers::new(), &body).as_deref(), Some("evt_123"));
}

#[test]
fn the_published_examples_of_senders_that_sign_the_body_hold() {
    let shopify = r#"{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}"#;
    for (settings, header, value, body, secret) in [
        // GitHub's documentation, "Validating webhook deliveries".
        (
            "scheme = \"github\"",
            "x-hub-signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            "Hello, World!",
            "It's a Secret to Everybody",
        ),
        // SQLPage's test of its function for Shopify's webhooks.
        (
            "scheme = \"shopify\"",
            "x-shopify-hmac-sha256",
            "QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw=",
            shopify,
            "test-webhook-secret",
        ),
        // RFC 2202, test case 2 of HMAC-SHA-1: Segment publishes no example of its own.
        (
            "scheme = \"segment\"",
            "x-signature",
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            "what do ya want for nothing?",
            "Jefe",
        ),
        // The same by hand, and a sender that puts several signatures into one header.
        (
            "auth = \"hmac\"\nheader = \"X-PagerDuty-Signature\"\nprefix = \"v1=\"\nalgorithm = \"sha1\"",
            "x-pagerduty-signature",
            "v1=00, v1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            "what do ya want for nothing?",
            "Jefe",
        ),
    ] {
        let auth = webhook(settings);
        let at =
            |value: &str, body: &str| verify(&auth, &[(header, value)], ("", body.as_bytes()), (secret, 0));
        assert_eq!(at(value, body), Ok(1), "{settings}");
        assert_eq!(at(value, "something else"), Err(Rejection::WrongSignature), "{settings}");
        assert_eq!(at("", body), Err(Rejection::UnreadableSignature), "{settings}");
        assert_eq!(verify(&auth, &[], ("", body.as_bytes()), (secret, 0)), Err(Rejection::NoSignature));
    }
}

/// "Verifying requests from Slack" in Slack's documentation.
#[test]
fn slack_s_published_example_holds_within_its_window() {
    let slack = webhook("scheme = \"slack\"");
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=\
        https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=\
        398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let good = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let at = |second: i64, signature: &str| {
        let named = [("x-slack-request-timestamp", "1531420618"), ("x-slack-signature", signature)];
        verify(&slack, &named, ("", body.as_bytes()), ("8f742231b10e8888abcd99yyyzzz85a5", second))
    };
    assert_eq!(at(1_531_420_618 + 300, good), Ok(1));
    assert_eq!(at(1_531_420_618 + 301, good), Err(Rejection::TooOld));
    assert_eq!(at(1_531_420_618, &good.replace("a2", "a3")), Err(Rejection::WrongSignature));
}

/// `tests/unit/test_request_validator.py` of Twilio's library for Python.
#[test]
fn twilio_s_published_examples_hold_for_forms_and_for_other_bodies() {
    let twilio = webhook("scheme = \"twilio\"\nurl = \"https://mycompany.com/myapp.php\"");
    let form =
        b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
    let at = |kind: &str, query: &str, body: &[u8], signature: &str| {
        let named = [("content-type", kind), ("x-twilio-signature", signature)];
        verify(&twilio, &named, (query, body), ("12345", 0))
    };
    let (query, good) = ("foo=1&bar=2", "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
    let form_type = "application/x-www-form-urlencoded; charset=UTF-8";
    assert_eq!(at(form_type, query, form, good), Ok(1));
    assert_eq!(at(form_type, "foo=1&bar=3", form, good), Err(Rejection::WrongSignature));
    assert_eq!(at(form_type, query, &form[..60], good), Err(Rejection::WrongSignature));
    let json = br#"{"property": "value", "boolean": true}"#;
    let hashed = "foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let good = "a9nBmqA0ju/hNViExpshrM61xv4=";
    assert_eq!(at("application/json", hashed, json, good), Ok(1));
    assert_eq!(at("application/json", hashed, b"{}", good), Err(Rejection::WrongSignature));
    assert_eq!(at("application/json", query, json, good), Err(Rejection::UnreadableSignature));
}

/// The examples of the Standard Webhooks specification's libraries and of Svix' documentation.
#[test]
fn the_specification_s_own_examples_hold_within_their_window() {
    for (settings, names, secret, id, sent, body, good) in [
        (
            "auth = \"standard_webhooks\"",
            "webhook",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "scheme = \"svix\"",
            "svix",
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            1_731_705_121,
            r#"{"event_type":"ping","data":{"success":true}}"#,
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
    ] {
        let auth = webhook(settings);
        let [id_name, sent_name, signature_name] =
            ["id", "timestamp", "signature"].map(|name| format!("{names}-{name}"));
        let at = |signature: &str, second: i64, body: &str| {
            let sent = sent.to_string();
            let named =
                [(id_name.as_str(), id), (sent_name.as_str(), &sent), (signature_name.as_str(), signature)];
            verify(&auth, &named, ("", body.as_bytes()), (secret, second))
        };
        assert_eq!(at(good, sent, body), Ok(1));
        assert_eq!(at(&format!("v1a,xx v1,AAAA {good}"), sent + 300, body), Ok(1));
        assert_eq!(at(&format!("{} {good}", ["v1,AAAA"; 30].join(" ")), sent - 300, body), Ok(1));
        assert_eq!(at(good, sent + 301, body), Err(Rejection::TooOld));
        assert_eq!(at(good, sent - 301, body), Err(Rejection::TooEarly));
        assert_eq!(at(good, sent, "{}"), Err(Rejection::WrongSignature));
        assert_eq!(at("", sent, body), Err(Rejection::UnreadableSignature));
        assert_eq!(at(&good.replace("v1", "v2"), sent, body), Err(Rejection::UnreadableSignature));
        let named = headers(&[(id_name.as_str(), id)]);
        assert_eq!(auth.call_id(&named, &Value::Null).as_deref(), Some(id));
    }
}

#[test]
fn a_secret_is_taken_in_every_form_that_the_official_libraries_take_and_refused_in_every_other() {
    let standard = webhook("auth = \"standard_webhooks\"");
    let bytes = [0xfb; 31];
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"msg_1.0.{}");
    let raw = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"a raw secret text, really"), b"msg_1.0.{}");
    let holds = |secret: &str, tag: &hmac::Tag| {
        let signature = format!("v1,{}", LENIENT.encode(tag));
        let named = [("webhook-id", "msg_1"), ("webhook-timestamp", "0"), ("webhook-signature", &signature)];
        verify(&standard, &named, ("", b"{}"), (secret, 0)).is_ok()
    };
    let padded = base64::prelude::BASE64_STANDARD.encode(bytes);
    let url_safe = base64::prelude::BASE64_URL_SAFE.encode(bytes);
    let unpadded = |text: &str| text.trim_end_matches('=').to_owned();
    for text in [padded.clone(), unpadded(&padded), url_safe.clone(), unpadded(&url_safe)] {
        for secret in [format!("whsec_{text}"), text] {
            assert_eq!(standard.refuses(&secret), None, "{secret}");
            assert!(holds(&secret, &tag), "{secret}");
        }
    }
    assert_eq!(standard.refuses("a raw secret text, really"), None);
    assert!(holds("a raw secret text, really", &raw));
    for bad in [
        "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_no base64 at all, really",
        "whsec_",
        " whsec_MfKQ9r8GKYqrTwj",
    ] {
        assert!(standard.refuses(bad).is_some(), "{bad}");
    }
    let stripe = webhook("scheme = \"stripe\"");
    assert_eq!(stripe.refuses("whsec_not.base64.and.not.meant.so"), None);
    assert!(stripe.refuses("too short").is_some());
}

#[test]
fn settings_that_can_never_verify_are_refused_with_what_to_write() {
    let refused = |settings: &str| {
        let webhook: WebhookSettings = toml::from_str(settings).unwrap();
        let problem = webhook.auth().unwrap_err();
        (problem.place, problem.hint.unwrap_or_default())
    };
    for (header, more, hint) in [
        ("Stripe-Signature", "prefix = \"v1=\"", "scheme = \"stripe\""),
        ("X-Slack-Signature", "prefix = \"v0=\"", "scheme = \"slack\""),
        ("svix-signature", "encoding = \"base64\"", "scheme = \"svix\""),
        ("X-Twilio-Signature", "algorithm = \"sha1\"", "scheme = \"twilio\""),
        ("X-Hub-Signature-256", "", "scheme = \"github\""),
        ("X-Shopify-Hmac-Sha256", "", "scheme = \"shopify\""),
    ] {
        let (place, said) = refused(&format!("auth = \"hmac\"\nheader = \"{header}\"\n{more}"));
        assert!(place == "webhook.header" && said.contains(hint), "{header}: {place} {said}");
    }
    let prefix = "auth = \"hmac\"\nheader = \"webhook-signature\"\nprefix = \"v1,\"";
    assert_eq!(refused(prefix).0, "webhook.prefix");
    assert_eq!(refused("scheme = \"twilio\"").0, "webhook.url");
    assert_eq!(refused("scheme = \"stripe\"\nprefix = \"v1=\"").0, "webhook.prefix");
    assert_eq!(refused("scheme = \"stripe\"\nauth = \"hmac\"").0, "webhook.auth");
    assert_eq!(refused("scheme = \"stripe\"\nurl = \"https://a.example/\"").0, "webhook.url");
    assert_eq!(refused("").0, "webhook.auth");
}

#[test]
fn a_bearer_is_the_secret_itself_and_no_secret_is_shown_to_a_mapping() {
    let auth = webhook("auth = \"bearer\"");
    let at = |value: &str| verify(&auth, &[("authorization", value)], ("", b""), ("0123456789abcdef", 0));
    assert_eq!(at("Bearer 0123456789abcdef"), Ok(1));
    for bad in ["Bearer 0123456789abcdeg", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"] {
        assert!(at(bad).is_err(), "{bad}");
    }
    let call = Call { headers: &Headers::new(), query: "", body: b"", now: Timestamp::default() };
    assert_eq!(auth.verify(&call, &[]), Err(Rejection::NoSecret));
    let all = ["authorization", "cookie", "stripe-signature", "x-slack-signature", "x-shop"];
    let shown = auth.visible(&headers(&all.map(|name| (name, "x"))));
    assert_eq!(shown, headers(&[("x-shop", "x")]));
}

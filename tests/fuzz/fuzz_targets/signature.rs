//! Signature headers: nothing but the right signature holds.
#![no_main]

use herald::domain::clock::Timestamp;
use herald::webhooks::{AuthKind, Headers, WebhookSettings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (AuthNumber, [String; 4], Vec<u8>)| {
    let (AuthNumber(number), [one, two, three, four], body) = input;
    let auth = [AuthKind::Bearer, AuthKind::Hmac, AuthKind::StandardWebhooks][usize::from(number) % 3];
    let header = (auth == AuthKind::Hmac).then(|| "x-signature".to_owned());
    let settings = WebhookSettings { auth, header, algorithm: None, encoding: None, prefix: None };
    let Ok(auth) = settings.auth() else { return };
    let names = ["authorization", "x-signature", "webhook-id", "webhook-timestamp", "webhook-signature"];
    let values = [one.clone(), one, two, three, four];
    let headers: Headers = names.map(str::to_owned).into_iter().zip(values).collect();
    let secrets = ["a secret that nobody guesses".to_owned(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()];
    let now = Timestamp::from_timestamp(1_614_265_330, 0).unwrap_or_default();
    let seen = auth.verify(&headers, &body, &secrets, now);
    let knows = headers.values().any(|value| secrets.iter().any(|secret| value.contains(secret.as_str())));
    assert!(seen.is_none() || knows);
    assert!(!auth.visible(&headers).contains_key("authorization"));
});

#[derive(Debug)]
struct AuthNumber(u8);

impl<'a> libfuzzer_sys::arbitrary::Arbitrary<'a> for AuthNumber {
    fn arbitrary(input: &mut libfuzzer_sys::arbitrary::Unstructured<'a>) -> libfuzzer_sys::arbitrary::Result<Self> {
        Ok(Self(u8::arbitrary(input)?))
    }
}

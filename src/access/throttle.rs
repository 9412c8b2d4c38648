//! Limits of attempts at passwords, codes and tokens, counted before any check.

use std::net::IpAddr;
use std::time::Duration;

use super::addresses::network_of;
use super::log_in::LogInError;
use super::team::Team;
use crate::domain::id::MemberId;
use crate::store::StoreError;
use crate::store::log_ins::ATTEMPT_WINDOW;
use crate::vault::sha256;

/// Maximum attempts per account and address, or per known browser.
const OWN_GUESSES: i32 = 10;
/// Maximum attempts per account from all unknown browsers, against distributed guessing.
const ACCOUNT_GUESSES: i32 = 60;
/// Maximum attempts per address.
const ADDRESS_GUESSES: i32 = 100;
/// Maximum attempts at one-time tokens per address.
const TOKEN_TRIES: i32 = 30;

/// The client of a request.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The token of a known browser.
    pub browser: Option<&'a str>,
    /// Its session token, valid or not: another login ends it.
    pub session: Option<&'a str>,
}

impl Client<'_> {
    /// An unknown client at this address.
    pub fn at(address: IpAddr) -> Self {
        Self { address, browser: None, session: None }
    }

    /// The hash of the browser token.
    pub(super) fn browser_hash(&self) -> Option<[u8; 32]> {
        self.browser.filter(|token| token.len() == 64).map(|token| sha256(token.as_bytes()))
    }
}

/// A counted attempt.
pub(super) struct Counted {
    /// The number of attempts in the narrowest count.
    pub tries: i32,
    /// Counts that a successful attempt resets.
    own: Vec<[u8; 32]>,
    /// Counts that a successful attempt is subtracted from.
    shared: Vec<[u8; 32]>,
}

fn throttled() -> LogInError {
    LogInError::Throttled { retry_after: ATTEMPT_WINDOW.to_std().unwrap_or(Duration::from_mins(15)) }
}

impl Team {
    /// Counts an attempt at an account's password. A known browser of the account's owner has a separate count, which
    /// no one else can use up.
    ///
    /// # Errors
    /// [`LogInError::Throttled`] after too many.
    pub(super) async fn count_guess(&self, email: &str, client: &Client<'_>) -> Result<Counted, LogInError> {
        self.count("password", email, email, client).await
    }

    /// Counts an attempt at a member's second factor in the same way.
    ///
    /// # Errors
    /// [`LogInError::Throttled`] after too many.
    pub(super) async fn count_code(
        &self,
        (member, email): (MemberId, &str),
        client: &Client<'_>,
    ) -> Result<Counted, LogInError> {
        self.count("code", &member.to_string(), email, client).await
    }

    async fn count(
        &self,
        kind: &str,
        account: &str,
        email: &str,
        client: &Client<'_>,
    ) -> Result<Counted, LogInError> {
        if let Some(hash) = client.browser_hash()
            && self.store.knows_browser(&hash, email).await?
        {
            let browser = client.browser.unwrap_or_default();
            let own = self.subject(&[kind, "browser", browser, account]);
            let tries = self.add(own, OWN_GUESSES).await?;
            return Ok(Counted { tries, own: vec![own], shared: Vec::new() });
        }
        let network = network_of(client.address);
        // Checked first, so that one address can't fill the table with accounts.
        let address = self.subject(&["address", &network]);
        self.add(address, ADDRESS_GUESSES).await?;
        let own = self.subject(&[kind, "pair", &network, account]);
        let tries = self.add(own, OWN_GUESSES).await?;
        let shared = self.subject(&[kind, "account", account]);
        self.add(shared, if kind == "code" { OWN_GUESSES } else { ACCOUNT_GUESSES }).await?;
        Ok(Counted { tries, own: vec![own], shared: vec![address, shared] })
    }

    async fn add(&self, subject: [u8; 32], max: i32) -> Result<i32, LogInError> {
        let counted = self.store.count_attempt(&[subject], self.clock.now()).await?;
        let tries = counted.first().map_or(1, |(_, tries)| *tries);
        if tries > max {
            return Err(throttled());
        }
        Ok(tries)
    }

    /// Subtracts a successful attempt.
    pub(super) async fn forgive(&self, counted: &Counted) -> Result<(), StoreError> {
        self.store.forgive_attempts(&counted.own, &counted.shared).await
    }

    /// Counts an attempt at a one-time token.
    ///
    /// # Errors
    /// [`LogInError::Throttled`] after too many from one address.
    pub async fn count_token_try(&self, address: IpAddr) -> Result<(), LogInError> {
        let subject = self.subject(&["token", &network_of(address)]);
        self.add(subject, TOKEN_TRIES).await?;
        Ok(())
    }

    /// Counts the start of a login at the provider, which costs a call.
    ///
    /// # Errors
    /// [`LogInError::Throttled`] after too many from one address.
    pub(super) async fn count_redirect(&self, address: IpAddr) -> Result<(), LogInError> {
        let subject = self.subject(&["redirect", &network_of(address)]);
        self.add(subject, ADDRESS_GUESSES).await?;
        Ok(())
    }

    /// The counted subject as a keyed hash, which doesn't reveal the account.
    fn subject(&self, parts: &[&str]) -> [u8; 32] {
        let content = format!("log-in attempts\n{}", parts.join("\n"));
        sha256(&self.store.vault().fingerprint(content.as_bytes()))
    }

    /// The account's hash in the log: the same for the same address, and useless without the secret key.
    pub(super) fn account_hash(&self, email: &str) -> String {
        use std::fmt::Write;
        let hash = self.subject(&["logged account", email]);
        hash.iter().take(8).fold(String::new(), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

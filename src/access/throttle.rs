//! Counting tries before anything is looked at: guesses at passwords, codes and tokens.

use std::net::IpAddr;
use std::time::Duration;

use super::addresses::network_of;
use super::log_in::LogInError;
use super::team::Team;
use crate::domain::id::MemberId;
use crate::store::StoreError;
use crate::store::log_ins::ATTEMPT_WINDOW;
use crate::vault::sha256;

/// Guesses at one account from one address, or from a browser that its owner has logged in with.
const OWN_GUESSES: i32 = 10;
/// Guesses at one account from all addresses where its owner never logged in: who guesses from everywhere still gets few.
const ACCOUNT_GUESSES: i32 = 60;
/// Guesses from one address at all accounts.
const ADDRESS_GUESSES: i32 = 100;
/// Tries at one-time tokens from one address.
const TOKEN_TRIES: i32 = 30;

/// What a request says about the browser that it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Its address.
    pub address: IpAddr,
    /// What a browser keeps that somebody logged in with before.
    pub browser: Option<&'a str>,
    /// The session that it holds, good or not: another log-in ends it.
    pub session: Option<&'a str>,
}

impl Client<'_> {
    /// Somebody at this address of whom nothing else is known.
    pub fn at(address: IpAddr) -> Self {
        Self { address, browser: None, session: None }
    }

    /// The hash that the browser is known by.
    pub(super) fn browser_hash(&self) -> Option<[u8; 32]> {
        self.browser.filter(|token| token.len() == 64).map(|token| sha256(token.as_bytes()))
    }
}

/// A guess that was counted.
pub(super) struct Counted {
    /// How many there were, of the narrowest count.
    pub tries: i32,
    /// Counts that a right guess ends.
    own: Vec<[u8; 32]>,
    /// Counts that a right guess is taken out of.
    shared: Vec<[u8; 32]>,
}

fn throttled() -> LogInError {
    LogInError::Throttled { retry_after: ATTEMPT_WINDOW.to_std().unwrap_or(Duration::from_mins(15)) }
}

impl Team {
    /// Counts a guess at an account's password. A browser that the account's owner has logged in with has a count of its
    /// own, which nobody else can use up.
    ///
    /// # Errors
    /// [`LogInError::Throttled`] after too many.
    pub(super) async fn count_guess(&self, email: &str, client: &Client<'_>) -> Result<Counted, LogInError> {
        self.count("password", email, email, client).await
    }

    /// Counts a guess at a member's second factor, in the same way.
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
        // First of all, so that one address fills no table with the accounts that it tries.
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

    /// Takes a right guess out of the counts.
    pub(super) async fn forgive(&self, counted: &Counted) -> Result<(), StoreError> {
        self.store.forgive_attempts(&counted.own, &counted.shared).await
    }

    /// Counts a try at a one-time token.
    ///
    /// # Errors
    /// [`LogInError::Throttled`] after too many from one address.
    pub async fn count_token_try(&self, address: IpAddr) -> Result<(), LogInError> {
        let subject = self.subject(&["token", &network_of(address)]);
        self.add(subject, TOKEN_TRIES).await?;
        Ok(())
    }

    /// Counts the start of a log-in at the provider, which costs Herald a call.
    ///
    /// # Errors
    /// [`LogInError::Throttled`] after too many from one address.
    pub(super) async fn count_redirect(&self, address: IpAddr) -> Result<(), LogInError> {
        let subject = self.subject(&["redirect", &network_of(address)]);
        self.add(subject, ADDRESS_GUESSES).await?;
        Ok(())
    }

    /// What is counted, in a form that says nothing about whom it is about to somebody who reads the table.
    fn subject(&self, parts: &[&str]) -> [u8; 32] {
        let content = format!("log-in attempts\n{}", parts.join("\n"));
        sha256(&self.store.vault().fingerprint(content.as_bytes()))
    }

    /// What the log calls an account: the same for the same address, and of no use without the secret key.
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

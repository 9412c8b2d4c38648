//! The console over HTTP, as a browser sees it: who can log in, what each role may do, and that nothing that people or
//! events say can become part of a page.

mod browser;
mod catalog_pages;
mod confirming;
mod issue_pages;
mod login;
mod pages;
mod people_pages;
mod permissions;
#[cfg(feature = "oidc")]
mod provider;
pub mod second_factor;
mod sessions;
pub mod visitor;

use crate::support::app::{TestApp, order_shipped};
use visitor::Visitor;

use herald::access::Role;

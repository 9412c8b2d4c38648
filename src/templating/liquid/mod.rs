//! The Liquid subset that OneSignal speaks.

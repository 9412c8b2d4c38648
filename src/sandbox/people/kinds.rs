//! The kinds of subscriptions that OneSignal knows.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::super::message::Channel;

/// OneSignal's types of subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::sandbox) enum Kind {
    Email,
    Sms,
    /// A device or browser: which, is its place in [`PUSH`].
    Push(u8),
}

/// The names of the kinds that are pushes.
const PUSH: [&str; 11] = [
    "iOSPush",
    "AndroidPush",
    "HuaweiPush",
    "FireOSPush",
    "WindowsPush",
    "macOSPush",
    "ChromePush",
    "ChromeExtensionPush",
    "FirefoxPush",
    "SafariPush",
    "SafariLegacyPush",
];

impl Kind {
    /// Reads OneSignal's spelling, exactly.
    pub(in crate::sandbox) fn parse(text: &str) -> Option<Self> {
        match text {
            "Email" => Some(Self::Email),
            "SMS" => Some(Self::Sms),
            _ => {
                let place = PUSH.iter().position(|name| *name == text)?;
                u8::try_from(place).ok().map(Self::Push)
            }
        }
    }

    /// As OneSignal spells it.
    pub(in crate::sandbox) fn name(self) -> &'static str {
        match self {
            Self::Email => "Email",
            Self::Sms => "SMS",
            Self::Push(place) => PUSH.get(usize::from(place)).copied().unwrap_or(PUSH[0]),
        }
    }

    pub(in crate::sandbox) fn channel(self) -> Channel {
        match self {
            Self::Email => Channel::Email,
            Self::Sms => Channel::Sms,
            Self::Push(_) => Channel::Push,
        }
    }

    /// The default kind of a channel: implicit users have an iPhone.
    pub(in crate::sandbox) fn usual(channel: Channel) -> Self {
        match channel {
            Channel::Email => Self::Email,
            Channel::Sms => Self::Sms,
            Channel::Push => Self::Push(0),
        }
    }

    /// As Event Streams and exports call the device: `iOS`, `Android`, `Chrome`, `Email`, `SMS` …
    pub(in crate::sandbox) fn device(self) -> &'static str {
        let name = self.name();
        name.strip_suffix("Push").unwrap_or(name)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Takes OneSignal's spelling in any case, and a channel's name for its usual kind.
impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let all = ["Email", "SMS"].into_iter().chain(PUSH);
        let exact = all.into_iter().find(|name| name.eq_ignore_ascii_case(&text)).and_then(Self::parse);
        let usual = || Channel::parse(&text.to_lowercase()).map(Self::usual);
        exact.or_else(usual).ok_or_else(|| {
            de::Error::custom("a channel must be `push`, `email` or `sms`, or a type such as `iOSPush`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        for name in ["Email", "SMS"].into_iter().chain(PUSH) {
            let kind: Kind = serde_json::from_value(name.into()).unwrap();
            assert_eq!(kind.name(), name);
            assert_eq!(Kind::parse(name), Some(kind));
        }
        assert_eq!(serde_json::from_str::<Kind>("\"push\"").unwrap().name(), "iOSPush");
        assert!(serde_json::from_str::<Kind>("\"Pager\"").is_err());
        assert_eq!(Kind::parse("email"), None, "OneSignal's API takes its own spelling alone");
        assert_eq!((Kind::Push(1).device(), Kind::Sms.device()), ("Android", "SMS"));
    }
}

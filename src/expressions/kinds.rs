//! What is known of a value in advance: the types that it may have, and its schemas.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::paths::Step;
use super::schema::Root;
use super::{Kind, schema};

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    pub const BOOL: Self = Self(1);
    pub const NUMBER: Self = Self(1 << 1);
    pub const TEXT: Self = Self(1 << 2);
    pub const LIST: Self = Self(1 << 3);
    pub const OBJECT: Self = Self(1 << 4);
    pub const NULL: Self = Self(1 << 5);
    pub const TIME: Self = Self(1 << 6);
    pub const DURATION: Self = Self(1 << 7);
    pub const BYTES: Self = Self(1 << 8);
    pub const TYPE: Self = Self(1 << 9);
    pub const OPTIONAL: Self = Self(1 << 10);
    pub const ANY: Self = Self((1 << 11) - 1);
    pub const NONE: Self = Self(0);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether a value may be of both sets.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// In plain words: `a string`, `a number or null`.
    pub fn words(self) -> String {
        const WORDS: [(Kinds, &str); 11] = [
            (Kinds::BOOL, "a boolean"),
            (Kinds::NUMBER, "a number"),
            (Kinds::TEXT, "a string"),
            (Kinds::LIST, "a list"),
            (Kinds::OBJECT, "an object"),
            (Kinds::TIME, "a time"),
            (Kinds::DURATION, "a duration"),
            (Kinds::BYTES, "bytes"),
            (Kinds::TYPE, "a type"),
            (Kinds::OPTIONAL, "an optional"),
            (Kinds::NULL, "null"),
        ];
        let said: Vec<&str> =
            WORDS.into_iter().filter(|(kind, _)| self.meets(*kind)).map(|(_, words)| words).collect();
        said.join(" or ")
    }
}

impl From<Kind> for Kinds {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::BOOL,
            // Times and durations are written as strings.
            Kind::Text => Self::TEXT.or(Self::TIME).or(Self::DURATION),
            Kind::Number => Self::NUMBER,
            Kind::List => Self::LIST,
            Kind::Object => Self::OBJECT,
            Kind::Any => Self::ANY.without(Self::OPTIONAL).without(Self::TYPE).without(Self::BYTES),
        }
    }
}

/// What is known of one value.
#[derive(Debug, Clone)]
pub(super) struct Fact<'a> {
    pub kinds: Kinds,
    pub node: Option<Node<'a>>,
    pub path: Option<Vec<Step>>,
}

/// Schemas of which a value meets at least one, and the document that their references point into.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub root: Root<'a>,
    pub any_of: Vec<&'a Json>,
}

impl Node<'_> {
    /// Each schema once: otherwise, alternatives that lead to the same ones would double with every step of a path.
    fn each_once(mut self) -> Self {
        let mut seen = HashSet::new();
        self.any_of.retain(|schema| seen.insert(std::ptr::from_ref::<Json>(schema)));
        self
    }
}

impl<'a> Fact<'a> {
    pub fn of(kinds: Kinds) -> Self {
        Self { kinds, node: None, path: None }
    }

    /// The types of a value that meets one of the schemas; any if there is none.
    pub fn described(node: Node<'a>, path: Option<Vec<Step>>) -> Self {
        let node = node.each_once();
        if node.any_of.is_empty() {
            return Self::unknown(path);
        }
        let kinds =
            node.any_of.iter().fold(Kinds::NONE, |kinds, schema| kinds.or(schema::kinds(node.root, schema)));
        // A schema that nothing can meet is a problem of the schema, not of the expression.
        let kinds = if kinds == Kinds::NONE { Kinds::ANY } else { kinds };
        Self { kinds, node: Some(node), path }
    }

    pub fn unknown(path: Option<Vec<Step>>) -> Self {
        Self { kinds: Kinds::ANY, node: None, path }
    }

    /// An entry of a list.
    pub fn entry(&self) -> Self {
        let path = self.path.clone().map(|mut path| {
            path.push(Step::Entry);
            path
        });
        let Some(node) = &self.node else { return Self::unknown(path) };
        let any_of = node.any_of.iter().flat_map(|part| schema::entries(node.root, part)).collect();
        Self::described(Node { root: node.root, any_of }, path)
    }
}

//! The possible values at a place, known in advance: absent or not, of which types, blank or not.
//!
//! A shape allows at least all that can be there. So what holds for a shape holds for every event.

use super::schema::Conj;
use super::text::{Chance, Text};

/// How sure it is that there is such a place at all; the surer, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listing {
    /// The schema names what there is, and it isn't among it.
    Unknown,
    /// The schema says nothing of it.
    Open,
    /// Keys like it may be there.
    Dictionary,
    /// The schema names it.
    Listed,
}

/// The possible numbers at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Whether each is whole.
    pub whole: bool,
    /// Whether one may be zero.
    pub zero: bool,
}

/// The possible lists at a place.
#[derive(Debug, Clone, PartialEq)]
pub struct List<'s> {
    /// The minimum number of elements.
    pub min: usize,
    /// What they may be.
    pub items: Items<'s>,
}

/// What the elements of a list may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Items<'s> {
    /// What schemas say.
    Listed(Conj<'s>),
    /// The first ones, and every other.
    Made(Vec<Shape<'s>>, Box<Shape<'s>>),
}

/// How deep lists in lists are looked into.
const MAX_LEVELS: usize = 8;
/// How many alternatives a shape keeps before it forgets what they say.
const MAX_ALTERNATIVES: usize = 64;

/// The possible values at a place.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each kind of value is possible or not, on its own")]
pub struct Shape<'s> {
    /// It may be missing.
    pub absent: bool,
    /// It may be `null`.
    pub null: bool,
    /// It may be true or false.
    pub boolean: bool,
    /// It may be a number.
    pub number: Option<Numbers>,
    /// It may be a text.
    pub text: Option<Text>,
    /// It may be a list.
    pub lists: Vec<List<'s>>,
    /// It may be an object.
    pub objects: Vec<Conj<'s>>,
    /// How sure it is that the place exists.
    pub listing: Listing,
    /// OneSignal's value, or already reported as wrong, so nothing more is reported.
    pub foreign: bool,
}

impl<'s> Shape<'s> {
    /// No value is possible.
    pub fn none() -> Self {
        Self {
            absent: false,
            null: false,
            boolean: false,
            number: None,
            text: None,
            lists: Vec::new(),
            objects: Vec::new(),
            listing: Listing::Unknown,
            foreign: false,
        }
    }

    /// What nothing is said of.
    pub fn foreign() -> Self {
        Self { foreign: true, listing: Listing::Listed, ..Self::none() }
    }

    /// Nothing, where something could have been.
    pub fn nil() -> Self {
        Self { null: true, listing: Listing::Listed, ..Self::none() }
    }

    /// A text.
    pub fn text(text: Text) -> Self {
        Self { text: Some(text), listing: Listing::Listed, ..Self::none() }
    }

    /// A number.
    pub fn number(numbers: Numbers) -> Self {
        Self { number: Some(numbers), listing: Listing::Listed, ..Self::none() }
    }

    /// How many of something there are.
    pub fn count() -> Self {
        Self::number(Numbers { whole: true, zero: true })
    }

    /// True or false.
    pub fn boolean() -> Self {
        Self { boolean: true, listing: Listing::Listed, ..Self::none() }
    }

    /// A list created by a filter.
    pub fn list(min: usize, first: Vec<Self>, rest: Self) -> Self {
        let list = List { min, items: Items::Made(first, Box::new(rest)) };
        Self { lists: vec![list], listing: Listing::Listed, ..Self::none() }
    }

    /// Whether it may be nothing.
    pub fn may_be_nil(&self) -> bool {
        self.absent || self.null
    }

    /// Whether it may be a list or an object.
    pub fn may_be_compound(&self) -> bool {
        !self.lists.is_empty() || !self.objects.is_empty()
    }

    /// Whether it may be anything but a list or an object.
    pub fn may_be_plain(&self) -> bool {
        self.boolean || self.number.is_some() || self.text.is_some()
    }

    /// Whether no value is possible.
    pub fn is_nothing(&self) -> bool {
        !self.may_be_compound() && !self.may_be_plain()
    }

    /// Whether its text may have nothing but whitespace.
    pub fn may_be_blank(&self) -> bool {
        self.may_be_blank_within(MAX_LEVELS)
    }

    fn may_be_blank_within(&self, levels: usize) -> bool {
        let item =
            |list: &List<'_>| levels == 0 || list.min == 0 || list.element().may_be_blank_within(levels - 1);
        self.may_be_nil() || self.text.as_ref().is_some_and(|text| text.blank) || self.lists.iter().any(item)
    }

    /// One or the other.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for list in other.lists {
            if !self.lists.contains(&list) {
                self.lists.push(list);
            }
        }
        for object in other.objects {
            if !self.objects.contains(&object) {
                self.objects.push(object);
            }
        }
        if self.objects.len() > MAX_ALTERNATIVES {
            self.objects = self.objects.first().map(Conj::unknown).into_iter().collect();
        }
        let either = |a, b: Option<Numbers>| match (a, b) {
            (Some(Numbers { whole, zero }), Some(b)) => {
                Some(Numbers { whole: whole && b.whole, zero: zero || b.zero })
            }
            (a, b) => a.or(b),
        };
        let text = match (self.text, other.text) {
            (Some(a), Some(b)) => Some(a.or(b)),
            (a, b) => a.or(b),
        };
        Self {
            absent: self.absent || other.absent,
            null: self.null || other.null,
            boolean: self.boolean || other.boolean,
            number: either(self.number, other.number),
            text,
            lists: self.lists,
            objects: self.objects,
            listing: self.listing.max(other.listing),
            foreign: self.foreign || other.foreign,
        }
    }

    /// The same, once it is known to be there.
    #[must_use]
    pub fn given(self) -> Self {
        Self { absent: false, null: false, ..self }
    }

    /// The same, once it is known to have something in it.
    #[must_use]
    pub fn not_empty(self) -> Self {
        let lists = self.lists.into_iter().map(|list| List { min: list.min.max(1), ..list }).collect();
        Self { text: self.text.map(Text::not_empty), lists, ..self }
    }

    /// The value under `key`; of lists and texts also `size`, `first` and `last`.
    pub fn member(&self, key: &str) -> Self {
        if self.foreign {
            return Self::foreign();
        }
        let mut found = Self::none();
        let answered = |shape: Self| if key == "size" { Self::count() } else { shape };
        if self.may_be_nil() || self.boolean || self.number.is_some() {
            found.absent = true;
        }
        if self.text.is_some() {
            found = found.or(answered(Self { absent: true, ..Self::none() }));
        }
        for list in &self.lists {
            found = found.or(match key {
                "first" => list.at(0),
                "last" => list.at(-1),
                _ => answered(Self { absent: true, ..Self::none() }),
            });
        }
        for object in &self.objects {
            let member = object.member(key);
            let counted = key == "size" && member.absent;
            found =
                found.or(if counted { Self { absent: false, ..member }.or(Self::count()) } else { member });
        }
        found
    }

    /// The element at `index`; negative ones count from the end.
    pub fn at(&self, index: i64) -> Self {
        if self.foreign {
            return Self::foreign();
        }
        let only_lists = !self.may_be_nil() && !self.may_be_plain() && self.objects.is_empty();
        let rest = Self { absent: !only_lists, ..Self::none() };
        self.lists.iter().map(|list| list.at(index)).fold(rest, Self::or)
    }

    /// What a key that is itself a value leads to.
    pub fn lookup(&self, key: &Self) -> Self {
        if self.foreign {
            return Self::foreign();
        }
        let mut found = Self { absent: true, ..Self::none() };
        if key.foreign || key.number.is_some() {
            found = self.lists.iter().map(List::element).fold(found, Self::or);
        }
        match key.text.as_ref().map(|text| &text.values) {
            Some(Some(values)) => {
                let members = values.iter().map(|value| self.member(value)).reduce(Self::or);
                let sure =
                    !key.may_be_nil() && key.number.is_none() && !key.boolean && !key.may_be_compound();
                found = if sure {
                    members.unwrap_or(found)
                } else {
                    members.map_or(found.clone(), |m| m.or(found))
                };
            }
            Some(None) => found = found.or(self.members()),
            None if key.foreign => found = found.or(self.members()),
            None => {}
        }
        Self { listing: found.listing.max(Listing::Dictionary), ..found }
    }

    fn members(&self) -> Self {
        self.objects.iter().map(Conj::members).fold(Self::none(), Self::or)
    }

    /// What a loop goes through: elements, the pairs of an object, or the one value.
    pub fn elements(&self) -> Self {
        if self.foreign {
            return Self::foreign();
        }
        let own = Self { lists: Vec::new(), objects: Vec::new(), ..self.clone() }.given();
        let found = self.lists.iter().map(List::element).fold(Self::none(), Self::or);
        let mut found = if self.may_be_plain() { found.or(own) } else { found };
        if !self.objects.is_empty() {
            found = found.or(Self::list(2, vec![Self::text(Text::any()), self.members()], Self::none()));
        }
        found
    }

    /// The least number of elements of the lists that it may be.
    pub fn min(&self) -> usize {
        self.lists.iter().map(|list| list.min).min().unwrap_or(0)
    }

    /// Whether it reads as a number: text that is known to, too.
    pub fn numeric(&self) -> Chance {
        let other = self.boolean || self.may_be_compound();
        let text = self.text.as_ref().map(|text| text.numeric);
        match (self.number.is_some(), text, other) {
            (_, None | Some(Chance::Always), false) => Chance::Always,
            (false, None | Some(Chance::Never), _) => Chance::Never,
            _ => Chance::Maybe,
        }
    }

    /// The keys that there are, to find what was meant.
    pub fn keys(&self) -> Vec<&'s str> {
        let mut keys: Vec<&str> = self.objects.iter().flat_map(Conj::keys).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The kinds that it may be, in words.
    pub fn kinds(&self) -> String {
        let kinds = [
            (self.text.is_some(), "a string"),
            (self.number.is_some(), "a number"),
            (self.boolean, "a boolean"),
            (!self.lists.is_empty(), "a list"),
            (!self.objects.is_empty(), "an object"),
        ];
        let words: Vec<&str> = kinds.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(" or ") }
    }
}

impl<'s> List<'s> {
    /// What each element may be.
    pub fn element(&self) -> Shape<'s> {
        match &self.items {
            Items::Listed(conj) => conj.element(None),
            Items::Made(first, rest) => first.iter().cloned().fold((**rest).clone(), Shape::or),
        }
    }

    fn at(&self, index: i64) -> Shape<'s> {
        let from_end = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
        let (shape, is_there) = match (index < 0, &self.items) {
            (true, _) => (self.element(), from_end <= self.min),
            (false, Items::Listed(conj)) => (conj.element(Some(from_end)), from_end < self.min),
            (false, Items::Made(first, rest)) => {
                (first.get(from_end).unwrap_or(rest).clone(), from_end < self.min)
            }
        };
        Shape { absent: shape.absent || !is_there, ..shape }
    }
}

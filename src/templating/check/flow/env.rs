//! What is known at a point of a template: the values of its variables, and what the conditions around it guarantee.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::templating::check::schema::Conj;
use crate::templating::check::shape::{List, Numbers, Shape};
use crate::templating::check::text::Text;
use crate::templating::liquid::ast::Literal;
use crate::templating::liquid::number::Number;

/// A place in `data`: its keys, `None` for any element of a list.
pub type Place = Vec<Option<String>>;

/// The maximum length of a place: events are not nested deeper.
pub(super) const LONGEST_PLACE: usize = 64;
/// How many bytes the name that identifies a value may have before it gets a new one.
pub(super) const LONGEST_TOKEN: usize = 1024;

/// How many places a value is traced back to.
const MAX_PLACES: usize = 16;

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Known<'s> {
    /// What it may be.
    pub shape: Shape<'s>,
    /// Tells it from every other value, so that what a condition says of it can be found.
    pub token: String,
    /// Where in `data` it may come from as it is.
    pub places: Vec<Place>,
    /// Whether it came from the event, so that it must not come out blank.
    pub given: bool,
    /// Whether a sensitive value went into it.
    pub sensitive: bool,
}

impl<'s> Known<'s> {
    /// A value of which nothing is said.
    pub fn foreign() -> Self {
        Self::own(Shape::foreign(), "")
    }

    /// A value of the template's own.
    pub fn own(shape: Shape<'s>, token: impl Into<String>) -> Self {
        Self { shape, token: token.into(), places: Vec::new(), given: false, sensitive: false }
    }

    /// One value or the other, which is a third.
    pub fn or(mut self, other: Self, token: String) -> Self {
        let same = self.token == other.token;
        self.places.extend(other.places);
        self.places.sort();
        self.places.dedup();
        self.places.truncate(MAX_PLACES);
        Self {
            shape: self.shape.or(other.shape),
            token: if same { self.token } else { token },
            places: self.places,
            given: self.given || other.given,
            sensitive: self.sensitive || other.sensitive,
        }
    }
}

/// What a condition makes sure of.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// It is there, and not `null`.
    Given,
    /// It has something but whitespace in it.
    Filled,
    /// If it is there, there is something in it.
    NotEmpty,
    /// It has at least this many elements.
    Least(usize),
    /// It is one of these.
    OneOf(Vec<Literal>),
    /// Of an object: its member `key` is one of these texts, or none of them.
    Member {
        /// The member.
        key: String,
        /// The texts.
        texts: BTreeSet<String>,
        /// Whether it is one of them.
        is_one: bool,
    },
}

impl Fact {
    /// The shape, once the fact is known.
    pub fn apply<'s>(&self, shape: Shape<'s>) -> Shape<'s> {
        match self {
            Self::Given => shape.given(),
            Self::Filled => {
                let shape = shape.given().not_empty();
                Shape { text: shape.text.map(Text::filled), ..shape }
            }
            Self::NotEmpty => shape.not_empty(),
            Self::Least(min) => {
                let shape = shape.given().not_empty();
                let longer = |list: List<'s>| List { min: list.min.max(*min), ..list };
                Shape { lists: shape.lists.into_iter().map(longer).collect(), ..shape }
            }
            Self::OneOf(literals) => one_of(shape, literals),
            Self::Member { key, texts, is_one } => distinguished(shape, key, texts, *is_one),
        }
    }
}

/// How many alternatives of an object are distinguished by a member.
const MAX_DISTINGUISHED: usize = 16;

/// The shape without the objects whose member `key` can't be as it is known to be.
fn distinguished<'s>(shape: Shape<'s>, key: &str, texts: &BTreeSet<String>, is_one: bool) -> Shape<'s> {
    if !(2..=MAX_DISTINGUISHED).contains(&shape.objects.len()) {
        return shape;
    }
    let fits = |object: &Conj<'s>| {
        let member = object.member(key);
        let only_text = !member.may_be_nil()
            && !member.may_be_compound()
            && !member.boolean
            && member.number.is_none()
            && !member.foreign;
        match member.text.and_then(|text| text.values) {
            Some(values) if is_one => !values.is_disjoint(texts),
            Some(values) => !(only_text && values.is_subset(texts)),
            None => true,
        }
    };
    let objects: Vec<Conj<'s>> = shape.objects.iter().filter(|object| fits(object)).cloned().collect();
    // Where no alternative is left, the branch is never taken.
    if objects.is_empty() { shape } else { Shape { objects, ..shape } }
}

fn one_of<'s>(shape: Shape<'s>, literals: &[Literal]) -> Shape<'s> {
    if shape.foreign {
        return shape;
    }
    let texts = literals.iter().filter_map(|literal| match literal {
        Literal::Text(text) => Some(text.clone()),
        _ => None,
    });
    let (texts, numbers): (BTreeSet<String>, Vec<Number>) =
        (texts.collect(), literals.iter().filter_map(number).collect());
    let zero = numbers.iter().any(|number| number.as_f64() == 0.0);
    Shape {
        absent: false,
        null: false,
        boolean: shape.boolean && literals.iter().any(|literal| matches!(literal, Literal::Bool(_))),
        number: shape.number.filter(|_| !numbers.is_empty()).map(|known| Numbers { zero, ..known }),
        text: shape.text.filter(|_| !texts.is_empty()).map(|_| Text::of_values(texts)),
        lists: Vec::new(),
        objects: Vec::new(),
        ..shape
    }
}

fn number(literal: &Literal) -> Option<Number> {
    match literal {
        Literal::Int(int) => Some(Number::Int(*int)),
        Literal::Float(float) => Some(Number::Float(*float)),
        _ => None,
    }
}

/// A fact and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// The value.
    pub token: String,
    /// What is known of it.
    pub fact: Fact,
    /// Whether OneSignal evaluates the value, so that its conditions guard it too.
    pub by_provider: bool,
}

/// What is known of the variables that may have been set; shared, since most branches set none.
pub type Variables<'s> = Rc<BTreeMap<String, Rc<Known<'s>>>>;

/// Everything that is known at a point.
#[derive(Debug, Clone, Default)]
pub struct Env<'s> {
    /// The variables that may have been set.
    pub variables: Variables<'s>,
    /// The elements of the open loops, innermost last.
    pub elements: Vec<(String, Known<'s>)>,
    /// What the conditions around make sure of.
    pub guards: Vec<Guard>,
}

impl<'s> Env<'s> {
    /// The value of a name in the template.
    pub fn find(&self, name: &str) -> Option<&Known<'s>> {
        let element = self.elements.iter().rev().find(|(known, _)| known == name).map(|(_, known)| known);
        element.or_else(|| self.variables.get(name).map(Rc::as_ref))
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: Known<'s>) {
        Rc::make_mut(&mut self.variables).insert(name.to_owned(), Rc::new(value));
    }

    /// The shape of the value `token`, with all that is known of it.
    pub fn narrow(&self, token: &str, shape: Shape<'s>) -> Shape<'s> {
        let known = self.guards.iter().filter(|guard| guard.token == token);
        known.fold(shape, |shape, guard| guard.fact.apply(shape))
    }

    /// Takes the variables of another way to the same point: each may be what it is on either.
    pub fn join(&mut self, other: &Variables<'s>, mut fresh: impl FnMut() -> String) {
        if Rc::ptr_eq(&self.variables, other) {
            return;
        }
        let nil = Rc::new(Known::own(Shape::nil(), "unset"));
        let own = Rc::make_mut(&mut self.variables);
        for name in other.keys() {
            own.entry(name.clone()).or_insert_with(|| Rc::clone(&nil));
        }
        for (name, known) in own {
            let theirs = other.get(name).unwrap_or(&nil);
            if !Rc::ptr_eq(known, theirs) {
                *known = Rc::new(known.as_ref().clone().or(theirs.as_ref().clone(), fresh()));
            }
        }
    }

    /// Whether the variables may be the same as in `other`.
    pub fn has_same_variables(&self, other: &Self) -> bool {
        let same = |(name, known): (&String, &Rc<Known<'s>>)| {
            other
                .variables
                .get(name)
                .is_some_and(|theirs| Rc::ptr_eq(known, theirs) || known.shape == theirs.shape)
        };
        Rc::ptr_eq(&self.variables, &other.variables)
            || (self.variables.len() == other.variables.len() && self.variables.iter().all(same))
    }
}

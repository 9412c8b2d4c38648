//! Values while rendering: borrowed from the globals wherever they can be.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use serde_json::Value as Json;

use super::ast::{Literal, Path};
use super::inspect::inspect;
use super::marked::{Kind, Marked};
use super::number::Number;
use crate::domain::visible::is_blank;

/// A value. `'a` is the globals and the template.
#[derive(Debug, Clone)]
pub enum Val<'a> {
    /// Nothing; with the path that led to nothing, if one did.
    Nil(Option<&'a Path>),
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text of the globals or the template.
    Text(&'a str),
    /// A text created while rendering.
    Made(Rc<str>),
    /// A text of which some is markup, or encoded already.
    Marked(Rc<Marked>),
    /// A list or an object of the globals.
    Json(&'a Json),
    /// A list created while rendering.
    List(Rc<[Val<'a>]>),
    /// `forloop`.
    Loop(Loop),
    /// `blank`
    Blank,
    /// `empty`
    Empty,
}

/// The position of a `for` loop.
#[derive(Debug, Clone, Copy)]
pub struct Loop {
    /// From 0.
    pub index: usize,
    /// How many elements there are.
    pub length: usize,
}

impl Loop {
    fn get(self, key: &str) -> Option<Val<'static>> {
        Some(match key {
            "index" => count(self.index + 1),
            "index0" => count(self.index),
            "rindex" => count(self.length - self.index),
            "rindex0" => count(self.length - self.index - 1),
            "length" => count(self.length),
            "first" => Val::Bool(self.index == 0),
            "last" => Val::Bool(self.index + 1 == self.length),
            _ => return None,
        })
    }
}

/// A count as a value.
pub fn count<'a>(count: usize) -> Val<'a> {
    Val::Number(Number::Int(i128::try_from(count).unwrap_or(i128::MAX)))
}

impl<'a> From<&'a Json> for Val<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Nil(None),
            Json::Bool(bool) => Self::Bool(*bool),
            Json::Number(number) => Self::Number(Number::of_json(number)),
            Json::String(text) => Self::Text(text),
            Json::Array(_) | Json::Object(_) => Self::Json(json),
        }
    }
}

impl<'a> From<&'a Literal> for Val<'a> {
    fn from(literal: &'a Literal) -> Self {
        match literal {
            Literal::Nil => Self::Nil(None),
            Literal::Bool(bool) => Self::Bool(*bool),
            Literal::Int(int) => Self::Number(Number::Int(*int)),
            Literal::Float(float) => Self::Number(Number::Float(*float)),
            Literal::Text(text) => Self::Text(text),
            Literal::Blank => Self::Blank,
            Literal::Empty => Self::Empty,
        }
    }
}

impl<'a> Val<'a> {
    /// A text created while rendering.
    pub fn made(text: impl Into<Rc<str>>) -> Self {
        Self::Made(text.into())
    }

    /// Whether it is nothing.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil(_))
    }

    /// Whether a condition takes it as true: all but nothing and `false`.
    pub fn is_true(&self) -> bool {
        !matches!(self, Self::Nil(_) | Self::Bool(false))
    }

    /// A text in parts, created while rendering.
    pub fn of_marked(text: Marked) -> Self {
        if text.is_plain() { Self::made(text.into_string()) } else { Self::Marked(Rc::new(text)) }
    }

    /// Its text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Made(text) => Some(text),
            Self::Marked(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// How it is written in an output. Lists are written without anything between.
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Json(Json::Array(list)) => {
                Cow::Owned(list.iter().map(|item| Val::from(item).to_text().into_owned()).collect())
            }
            Self::List(list) => Cow::Owned(list.iter().map(|item| item.to_text().into_owned()).collect()),
            other => other.to_filtered_text(),
        }
    }

    /// The text that filters on texts work on; lists and objects are written as the reference engine writes them.
    pub fn to_filtered_text(&self) -> Cow<'_, str> {
        match self {
            Self::Nil(_) | Self::Blank | Self::Empty => Cow::Borrowed(""),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Made(text) => Cow::Borrowed(text),
            Self::Marked(text) => Cow::Borrowed(text.as_str()),
            Self::Json(_) | Self::List(_) => {
                let mut text = String::new();
                inspect(&self.to_json(), &mut text);
                Cow::Owned(text)
            }
            Self::Loop(_) => Cow::Borrowed("Liquid::ForloopDrop"),
        }
    }

    /// How it is written in an output, in parts; what is not marked is plain.
    pub fn to_marked(&self) -> Cow<'_, Marked> {
        match self {
            Self::Marked(text) => Cow::Borrowed(text),
            Self::List(list) => {
                let mut all = Marked::default();
                list.iter().for_each(|item| all.push_all(&item.to_marked()));
                Cow::Owned(all)
            }
            other => Cow::Owned(Marked::new(other.to_text(), Kind::Plain)),
        }
    }

    /// As JSON, for the filter `json` and for what travels to OneSignal.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Nil(_) => Json::Null,
            Self::Bool(bool) => Json::Bool(*bool),
            Self::Number(Number::Int(int)) => match (i64::try_from(*int), u64::try_from(*int)) {
                (Ok(int), _) => int.into(),
                (_, Ok(int)) => int.into(),
                (Err(_), Err(_)) => Number::Int(*int).as_f64().into(),
            },
            Self::Number(Number::Float(float)) => (*float).into(),
            Self::Json(json) => (*json).clone(),
            Self::List(list) => list.iter().map(Val::to_json).collect(),
            Self::Text(_) | Self::Made(_) | Self::Marked(_) | Self::Loop(_) | Self::Blank | Self::Empty => {
                Json::String(self.to_text().into_owned())
            }
        }
    }

    /// How many elements, characters or members it has; nothing if it has none of these.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::Text(_) | Self::Made(_) | Self::Marked(_) => self.as_str().map(|text| text.chars().count()),
            Self::Json(Json::Array(list)) => Some(list.len()),
            Self::Json(Json::Object(members)) => Some(members.len()),
            Self::List(list) => Some(list.len()),
            _ => None,
        }
    }

    /// The element at `index`; negative ones count from the end.
    pub fn at(&self, index: i64) -> Option<Val<'a>> {
        let length = match self {
            Self::Json(Json::Array(list)) => list.len(),
            Self::List(list) => list.len(),
            _ => return None,
        };
        let from_end = usize::try_from(index.unsigned_abs()).ok()?;
        let index = if index < 0 { length.checked_sub(from_end)? } else { from_end };
        match self {
            Self::Json(Json::Array(list)) => list.get(index).map(Val::from),
            Self::List(list) => list.get(index).cloned(),
            _ => None,
        }
    }

    /// The member `key`, or what `size`, `first` and `last` say of a value that has no such member.
    pub fn get(&self, key: &str) -> Option<Val<'a>> {
        match self {
            Self::Json(Json::Object(members)) => {
                if let Some(member) = members.get(key) {
                    return Some(Val::from(member));
                }
            }
            Self::Loop(place) => return place.get(key),
            _ => {}
        }
        match key {
            "size" => self.counted(),
            "first" => self.first(),
            "last" => self.at(-1),
            _ => None,
        }
    }

    /// What `size` says: a whole number has the size of a machine's word, as in the reference engine.
    pub fn counted(&self) -> Option<Val<'a>> {
        match self {
            Self::Number(Number::Int(_)) => Some(count(8)),
            other => other.size().map(count),
        }
    }

    /// The first element of a list, or the first pair of an object.
    pub fn first(&self) -> Option<Val<'a>> {
        match self {
            Self::Json(Json::Object(members)) => {
                let (key, member) = members.iter().next()?;
                Some(Val::List(Rc::from([Val::Text(key), Val::from(member)])))
            }
            other => other.at(0),
        }
    }

    /// Looks `key` up, where the key is itself a value.
    pub fn lookup(&self, key: &Val<'_>) -> Option<Val<'a>> {
        match key {
            Val::Number(number) => self.at(number.as_i64()),
            key => self.get(key.as_str()?),
        }
    }

    /// What a loop goes through: the elements of a list, the pairs of an object, or a text as a single one.
    pub fn elements(&self) -> Rc<[Val<'a>]> {
        match self {
            Self::Json(Json::Array(list)) => list.iter().map(Val::from).collect(),
            Self::Json(Json::Object(members)) => members
                .iter()
                .map(|(key, member)| Val::List(Rc::from([Val::Text(key), Val::from(member)])))
                .collect(),
            Self::List(list) => Rc::clone(list),
            other if other.as_str().is_some_and(|text| !text.is_empty()) => Rc::from([other.clone()]),
            _ => Rc::from([]),
        }
    }

    /// What filters on lists work on: the elements of a list and of the lists in it, or a single value.
    pub fn items(&self) -> Vec<Val<'a>> {
        let mut items = Vec::new();
        match self {
            Self::Nil(_) => {}
            Self::Json(Json::Array(_)) | Self::List(_) => self.flatten(&mut items),
            other => items.push(other.clone()),
        }
        items
    }

    fn flatten(&self, items: &mut Vec<Val<'a>>) {
        match self {
            Self::Json(Json::Array(list)) => list.iter().for_each(|item| Val::from(item).flatten(items)),
            Self::List(list) => list.iter().for_each(|item| item.flatten(items)),
            other => items.push(other.clone()),
        }
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self, Self::Json(Json::Array(_)) | Self::List(_))
    }

    /// Whether it is a list or an object.
    pub fn is_compound(&self) -> bool {
        matches!(self, Self::Json(_) | Self::List(_))
    }

    /// Whether it is a text in which nothing can be seen.
    pub fn is_blank_text(&self) -> bool {
        self.as_str().is_some_and(is_blank)
    }

    /// Whether it equals `blank`: nothing, `false`, no elements, or nothing but whitespace.
    pub fn is_blank(&self) -> bool {
        match self.as_str() {
            Some(text) => text.trim().is_empty(),
            None => !self.is_true() || self.is_empty(),
        }
    }

    /// Whether it equals `empty`: a text, list or object without anything in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Blank | Self::Empty) || self.size() == Some(0)
    }

    /// Whether the two are equal: numbers by value, texts by characters, lists and objects by what is in them.
    pub fn equals(&self, other: &Val<'_>) -> bool {
        match (self, other) {
            (Self::Blank, value) | (value, Val::Blank) => value.is_blank(),
            (Self::Empty, value) | (value, Val::Empty) => value.is_empty(),
            (Self::Nil(_), Val::Nil(_)) => true,
            (Self::Bool(a), Val::Bool(b)) => a == b,
            (Self::Number(a), Val::Number(b)) => a.compare(*b) == Some(Ordering::Equal),
            (Self::Json(a), Val::Json(b)) => a == b,
            (Self::List(_), Val::List(_) | Val::Json(Json::Array(_)))
            | (Self::Json(Json::Array(_)), Val::List(_)) => {
                let (a, b) = (self.elements(), other.elements());
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.equals(b))
            }
            (a, b) => matches!((a.as_str(), b.as_str()), (Some(a), Some(b)) if a == b),
        }
    }

    /// Which comes first; nothing if one of them has no order.
    ///
    /// # Errors
    /// The kinds can't be compared; the text is the reference engine's.
    pub fn compare(&self, other: &Val<'_>) -> Result<Option<Ordering>, String> {
        match (self, other) {
            (Self::Number(a), Val::Number(b)) => Ok(a.compare(*b)),
            (Self::Number(Number::Int(_)), b) if b.as_str().is_some() => {
                Err("comparison of Integer with String failed".to_owned())
            }
            (Self::Number(Number::Float(_)), b) if b.as_str().is_some() => {
                Err("comparison of Float with String failed".to_owned())
            }
            (a, Val::Number(b)) if a.as_str().is_some() => {
                Err(format!("comparison of String with {b} failed"))
            }
            (a, b) => Ok(a.as_str().zip(b.as_str()).map(|(a, b)| a.cmp(b))),
        }
    }
}

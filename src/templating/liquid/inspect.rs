//! How the reference engine writes lists and objects where a text is wanted.

use std::fmt::Write;

use serde_json::Value as Json;

use super::number::Number;

/// A list or an object as text: `["a", 1]`, `{"k"=>nil}`.
pub fn inspect(json: &Json, out: &mut String) {
    match json {
        Json::Null => out.push_str("nil"),
        Json::Bool(bool) => write!(out, "{bool}").unwrap_or_default(),
        Json::Number(number) => write!(out, "{}", Number::of_json(number)).unwrap_or_default(),
        Json::String(text) => quote(text, out),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                inspect(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                quote(key, out);
                out.push_str("=>");
                inspect(member, out);
            }
            out.push('}');
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{8}' => out.push_str("\\b"),
            '\u{7}' => out.push_str("\\a"),
            '\u{1b}' => out.push_str("\\e"),
            '#' if chars.peek().is_some_and(|next| "{$@".contains(*next)) => out.push_str("\\#"),
            c if c.is_control() && c.is_ascii() => write!(out, "\\u{:04X}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push('"');
}

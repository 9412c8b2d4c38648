//! Determines the HTML context of each output: between tags, in an attribute, at the start of a link.

use std::mem::discriminant;

use super::dataflow::bodies;
use super::escape::{Place, Places};
use crate::domain::budget::Budget;
use crate::domain::template::FieldKind;
use crate::templating::liquid::ast::{For, Node};

/// The place of every output in a field. A loop whose body ends elsewhere than it begins is read twice, and so is each
/// loop within it: the budget ends that, and the compiler then says so.
pub fn places(source: &str, nodes: &[Node], kind: FieldKind, budget: &Budget) -> Places {
    let mut walk = Walk {
        source,
        kind,
        budget,
        found: Places::default(),
        lost: false,
        loops: Vec::new(),
        jumped: false,
    };
    let mut at = State::default();
    walk.block(nodes, &mut at);
    walk.found
}

/// The HTML context after what has been read so far.
#[derive(Debug, Clone, Default)]
pub struct State {
    spot: Spot,
    /// The name of the tag that is or was open, in lower case.
    tag: String,
    /// The name of the attribute, in lower case.
    attribute: String,
    /// The last characters, in lower case, to find the end of comments and scripts.
    tail: String,
    /// Whether the link, or the attribute's value, has begun.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Spot {
    /// Between tags; everything in fields that are not HTML.
    #[default]
    Text,
    /// After `<`.
    Open,
    /// `<!…>` or `<?…>`.
    Declaration,
    /// `<!--…-->`
    Comment,
    TagName,
    /// Within a tag, between attributes.
    Tag,
    AttributeName,
    AfterName,
    BeforeValue,
    Unquoted,
    Quoted(char),
    /// In an element whose content is not HTML.
    Foreign,
    /// Branches left it in different places.
    Lost,
}

const FOREIGN: [&str; 7] = ["script", "style", "iframe", "xmp", "noembed", "noframes", "plaintext"];
const LINKS: [&str; 13] = [
    "href",
    "src",
    "action",
    "formaction",
    "background",
    "poster",
    "cite",
    "data",
    "longdesc",
    "srcset",
    "xlink:href",
    "ping",
    "codebase",
];

struct Walk<'s> {
    source: &'s str,
    kind: FieldKind,
    budget: &'s Budget,
    found: Places,
    /// A capture contains half a tag, so the context of its text is unknown.
    lost: bool,
    /// Where the open loops began.
    loops: Vec<State>,
    /// A jump left a loop's body elsewhere than it began.
    jumped: bool,
}

impl Walk<'_> {
    fn block(&mut self, nodes: &[Node], at: &mut State) {
        for node in nodes {
            if self.budget.steps(1).is_err() {
                return;
            }
            match node {
                Node::Text(span) => {
                    let text = span.of(self.source);
                    if self.budget.work(text.len()).is_ok() {
                        self.read(text, at);
                    }
                }
                Node::Output(output) => {
                    let place = self.place(at);
                    self.found.0.insert(output.span.start, place);
                    at.begun = true;
                }
                Node::If(node) => {
                    let bodies = node.branches.iter().map(|branch| branch.body.as_slice());
                    self.branches(bodies.collect(), node.otherwise.as_deref(), at);
                }
                Node::Case(node) => {
                    let bodies = node.whens.iter().map(|when| when.body.as_slice());
                    self.branches(bodies.collect(), node.otherwise.as_deref(), at);
                }
                Node::For(node) => self.repeated(node, at),
                Node::Capture(node) => self.capture(&node.body),
                Node::Break | Node::Continue => {
                    self.jumped |= self.loops.last().is_some_and(|start| !at.agrees(start));
                }
                Node::Assign(_) => {}
            }
        }
    }

    /// A loop's body must end where it began, or its second round begins elsewhere than its first.
    fn repeated(&mut self, node: &For, at: &mut State) {
        let (start, jumped) = (at.clone(), std::mem::take(&mut self.jumped));
        self.loops.push(start.clone());
        let mut end = start.clone();
        self.block(&node.body, &mut end);
        self.loops.pop();
        if self.jumped || !end.agrees(&start) {
            self.lost = true;
            self.block(&node.body, &mut end);
        }
        self.jumped = jumped;
        self.branches(Vec::new(), node.otherwise.as_deref(), at);
    }

    /// Reads each alternative from the same start. Where they end differently, what follows is lost.
    fn branches<'n>(&mut self, mut bodies: Vec<&'n [Node]>, otherwise: Option<&'n [Node]>, at: &mut State) {
        bodies.push(otherwise.unwrap_or_default());
        let start = at.clone();
        let mut ends = Vec::with_capacity(bodies.len());
        for body in &bodies {
            let mut state = start.clone();
            self.block(body, &mut state);
            ends.push(state);
        }
        let same = ends.windows(2).all(|pair| pair[0].agrees(&pair[1]));
        let begun = ends.iter().all(|end| end.begun);
        if let Some(end) = ends.into_iter().next() {
            *at = end;
        }
        at.begun = begun;
        if !same {
            at.spot = Spot::Lost;
            self.lost = true;
        }
    }

    fn capture(&mut self, body: &[Node]) {
        let (kind, mut state) = (self.kind, State::default());
        self.block(body, &mut state);
        if kind == FieldKind::Html && state.spot != Spot::Text {
            self.lost = true;
        }
        if kind == FieldKind::Link {
            // The place is known where the captured text is put.
            self.forget_places(body);
        }
    }

    fn forget_places(&mut self, nodes: &[Node]) {
        for node in nodes {
            if let Node::Output(output) = node {
                self.found.0.insert(output.span.start, Place::Raw);
            }
            for nodes in bodies(node) {
                self.forget_places(nodes);
            }
        }
    }

    fn read(&self, text: &str, at: &mut State) {
        match self.kind {
            FieldKind::Html => at.read_all(text),
            FieldKind::Link => at.begun |= !text.trim().is_empty(),
            FieldKind::Text | FieldKind::Line | FieldKind::Fixed => {}
        }
    }

    fn place(&self, at: &State) -> Place {
        match self.kind {
            FieldKind::Text => Place::Text,
            FieldKind::Line | FieldKind::Fixed => Place::Line,
            FieldKind::Link if at.begun => Place::LinkPart,
            FieldKind::Link => Place::LinkStart,
            FieldKind::Html if self.lost => Place::Refused(
                "the branches or captures before it leave a tag open, so the value's context is unclear",
            ),
            FieldKind::Html => at.place(),
        }
    }
}

impl State {
    fn agrees(&self, other: &Self) -> bool {
        let same_name = self.attribute == other.attribute && self.tag == other.tag;
        let named = matches!(
            self.spot,
            Spot::Quoted(_) | Spot::Unquoted | Spot::Foreign | Spot::TagName | Spot::AttributeName
        );
        discriminant(&self.spot) == discriminant(&other.spot)
            && self.spot == other.spot
            && (same_name || !named)
    }

    /// Reads HTML as its author wrote it.
    pub fn read_all(&mut self, text: &str) {
        text.chars().for_each(|c| self.read(c));
    }

    /// Passes over a value that was put here.
    pub fn pass_value(&mut self) {
        self.begun = true;
    }

    /// Whether all tags are closed that were opened.
    pub fn is_between_tags(&self) -> bool {
        self.spot == Spot::Text
    }

    /// The place of a value that is put here.
    pub fn place(&self) -> Place {
        match self.spot {
            Spot::Text => Place::Markup,
            Spot::Quoted(_) => self.in_attribute(),
            Spot::Foreign => Place::Refused("a value is not safe in a script, a style sheet or a frame"),
            Spot::Comment | Spot::Declaration => {
                Place::Refused("a value is not allowed in a comment or declaration")
            }
            Spot::Unquoted | Spot::BeforeValue => Place::Refused("put the attribute's value in quotes"),
            Spot::Open | Spot::TagName | Spot::Tag | Spot::AttributeName | Spot::AfterName => {
                Place::Refused("a value is not allowed in a tag outside of a quoted attribute")
            }
            Spot::Lost => Place::Refused("the branches before it end in different HTML contexts"),
        }
    }

    fn in_attribute(&self) -> Place {
        let name = self.attribute.as_str();
        if name.starts_with("on") {
            return Place::Refused("a value is not safe in an attribute that contains a script");
        }
        if name == "srcdoc" || (self.tag == "meta" && name == "content") {
            return Place::Refused("a value is not safe in this attribute");
        }
        match (LINKS.contains(&name), self.begun) {
            (true, false) => Place::AttributeLinkStart,
            (true, true) => Place::AttributeLinkPart,
            (false, _) if name == "style" => Place::Style,
            (false, _) => Place::Attribute,
        }
    }

    fn read(&mut self, c: char) {
        self.spot = match self.spot {
            Spot::Text if c == '<' => Spot::Open,
            Spot::Open => self.opened(c),
            Spot::Declaration | Spot::Comment | Spot::Foreign => self.skipped(c),
            Spot::Quoted(quote) if c == quote => Spot::Tag,
            Spot::Quoted(quote) => {
                self.begun |= !c.is_ascii_whitespace();
                Spot::Quoted(quote)
            }
            Spot::TagName
            | Spot::Tag
            | Spot::AttributeName
            | Spot::AfterName
            | Spot::BeforeValue
            | Spot::Unquoted => self.within_tag(c),
            Spot::Text | Spot::Lost => self.spot,
        };
    }

    /// A character in a tag, outside of quotes.
    fn within_tag(&mut self, c: char) -> Spot {
        let (space, named) =
            (c.is_ascii_whitespace(), matches!(self.spot, Spot::AttributeName | Spot::AfterName));
        match (self.spot, c) {
            (_, '>') => self.closed(),
            (Spot::BeforeValue, '"' | '\'') => {
                self.begun = false;
                Spot::Quoted(c)
            }
            (Spot::BeforeValue, _) if space => Spot::BeforeValue,
            (Spot::BeforeValue | Spot::Unquoted, _) => {
                if space {
                    Spot::Tag
                } else {
                    Spot::Unquoted
                }
            }
            (_, '=') if named => Spot::BeforeValue,
            (_, '/') => Spot::Tag,
            (_, _) if space => {
                if named {
                    Spot::AfterName
                } else {
                    Spot::Tag
                }
            }
            (Spot::TagName, _) => push(&mut self.tag, c, Spot::TagName),
            (Spot::AttributeName, _) => push(&mut self.attribute, c, Spot::AttributeName),
            (_, _) => {
                self.attribute.clear();
                push(&mut self.attribute, c, Spot::AttributeName)
            }
        }
    }

    fn opened(&mut self, c: char) -> Spot {
        self.tag.clear();
        self.tail.clear();
        match c {
            '<' => Spot::Open,
            '!' | '?' => Spot::Declaration,
            '/' => Spot::TagName,
            c if c.is_ascii_alphabetic() => push(&mut self.tag, c, Spot::TagName),
            _ => Spot::Text,
        }
    }

    fn closed(&mut self) -> Spot {
        self.tail.clear();
        if FOREIGN.contains(&self.tag.as_str()) { Spot::Foreign } else { Spot::Text }
    }

    /// In content that is not HTML, only its end matters.
    fn skipped(&mut self, c: char) -> Spot {
        self.tail.push(c.to_ascii_lowercase());
        let ends = match self.spot {
            Spot::Declaration if self.tail == "--" => return Spot::Comment,
            Spot::Declaration => c == '>',
            Spot::Comment => self.tail.ends_with("-->"),
            _ => self.tail.strip_suffix(self.tag.as_str()).is_some_and(|before| before.ends_with("</")),
        };
        if self.tail.len() > 32 {
            self.tail = self.tail.chars().skip(self.tail.chars().count().saturating_sub(16)).collect();
        }
        match (ends, self.spot) {
            (false, spot) => spot,
            (true, Spot::Foreign) => {
                self.tag.clear();
                Spot::TagName
            }
            (true, _) => Spot::Text,
        }
    }
}

fn push(name: &mut String, c: char, spot: Spot) -> Spot {
    name.push(c.to_ascii_lowercase());
    spot
}

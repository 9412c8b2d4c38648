//! Builds the tree of nodes from the pieces of a source.

use super::ast::{Assign, Branch, Capture, Case, For, If, Node, Span, When};
use super::expression::Reader;
use super::lexer::{Piece, pieces};
use super::position::SyntaxError;
use super::spaces::is_only_space;
use crate::domain::budget::{Budget, Spent};

/// The longest source, in bytes.
pub const MAX_SOURCE: usize = 64 * 1024;
/// How deeply blocks may nest.
pub const MAX_NESTING: usize = 50;
/// How many branches an `if`, `unless` or `case` may have.
const MAX_BRANCHES: usize = 100;

/// The tags that begin something.
pub const TAGS: [&str; 10] =
    ["if", "unless", "case", "for", "assign", "capture", "break", "continue", "comment", "raw"];

/// Parses a whole source, within a budget of a step per token and node.
pub fn parse(source: &str, budget: &Budget) -> Result<Vec<Node>, SyntaxError> {
    if source.len() > MAX_SOURCE {
        let message = format!("a template has at most {MAX_SOURCE} bytes; this one has {}", source.len());
        return Err(SyntaxError::at(source, 0, message));
    }
    budget.work(source.len()).map_err(|spent| too_much(source, 0, spent))?;
    let mut parser =
        Parser { source, budget, pieces: pieces(source)?, at: 0, depth: 0, loops: 0, is_blank: true };
    let block = parser.block(&[])?;
    match block.end {
        None => Ok(block.nodes),
        Some(end) => parser.fail(end.span, stray(&end.name)),
    }
}

fn stray(name: &str) -> String {
    match name {
        "else" => "`else` is outside of `if`, `unless`, `case` and `for`".to_owned(),
        "elsif" => "`elsif` is outside of `if`".to_owned(),
        "when" => "`when` is outside of `case`".to_owned(),
        end => format!("`{end}` has no matching opening tag"),
    }
}

/// The error of a budget that is spent at `at`.
fn too_much(source: &str, at: usize, spent: Spent) -> SyntaxError {
    SyntaxError::at(source, at, format!("the template is too complex: {spent}; shorten it"))
}

struct Parser<'s> {
    source: &'s str,
    budget: &'s Budget,
    pieces: Vec<Piece>,
    at: usize,
    depth: usize,
    /// How many `for` bodies are open: `break` and `continue` need one.
    loops: usize,
    /// Whether the tag that was read last prints nothing by itself.
    is_blank: bool,
}

struct Block<'s> {
    nodes: Vec<Node>,
    /// Whether it prints nothing but whitespace: no output, no jump, no raw text.
    is_blank: bool,
    /// The tag that ended it; none at the end of the source.
    end: Option<End<'s>>,
}

struct End<'s> {
    name: String,
    reader: Reader<'s>,
    span: Span,
}

impl<'s> Parser<'s> {
    fn fail<T>(&self, span: Span, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::at(self.source, span.start, message))
    }

    /// Reads nodes up to a tag of `ends`, or any other closing tag at the outermost level.
    fn block(&mut self, ends: &[&str]) -> Result<Block<'s>, SyntaxError> {
        let (mut nodes, mut is_blank) = (Vec::new(), true);
        while let Some(piece) = self.pieces.get(self.at).copied() {
            self.at += 1;
            self.budget.steps(1).map_err(|spent| too_much(self.source, piece.start(), spent))?;
            match piece {
                Piece::Text(span) => {
                    is_blank &= is_only_space(span.of(self.source));
                    nodes.push(Node::Text(span));
                }
                Piece::Raw(span) => {
                    is_blank = false;
                    nodes.push(Node::Text(span));
                }
                Piece::Output { inner, outer } => {
                    is_blank = false;
                    let mut reader = Reader::new(self.source, inner, self.budget)?;
                    if reader.is_done() {
                        return self.fail(outer, "this output is empty");
                    }
                    nodes.push(Node::Output(reader.filtered(outer)?));
                }
                Piece::Tag { inner, outer } => {
                    let mut reader = Reader::new(self.source, inner, self.budget)?;
                    let name = reader.word("the name of a tag")?;
                    if is_end(&name) {
                        let end = End { name, reader, span: outer };
                        self.check_end(&end, ends)?;
                        return Ok(Block { nodes, is_blank, end: Some(end) });
                    }
                    nodes.push(self.tag(&name, reader, outer)?);
                    is_blank &= self.is_blank;
                }
            }
        }
        Ok(Block { nodes, is_blank, end: None })
    }

    fn check_end(&self, end: &End<'s>, ends: &[&str]) -> Result<(), SyntaxError> {
        if ends.is_empty() || ends.contains(&end.name.as_str()) {
            return Ok(());
        }
        let wanted = ends.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
        self.fail(end.span, format!("expected {wanted}, not `{}`", end.name))
    }

    /// Reads the block of a tag that must be closed; `opened` names it in errors. Also returns whether it is blank.
    fn inside(
        &mut self,
        opened: &str,
        span: Span,
        ends: &[&str],
        is_blank: &mut bool,
    ) -> Result<(Vec<Node>, End<'s>), SyntaxError> {
        if self.depth >= MAX_NESTING {
            return self.fail(span, format!("blocks are nested more than {MAX_NESTING} deep"));
        }
        self.depth += 1;
        let block = self.block(ends)?;
        self.depth -= 1;
        *is_blank &= block.is_blank;
        match block.end {
            Some(end) => Ok((block.nodes, end)),
            None => self.fail(span, format!("`{opened}` is not closed by `end{opened}`")),
        }
    }

    fn tag(&mut self, name: &str, reader: Reader<'s>, span: Span) -> Result<Node, SyntaxError> {
        match name {
            "if" => self.conditional("if", false, reader, span),
            "unless" => self.conditional("unless", true, reader, span),
            "case" => self.case(reader, span),
            "for" => self.for_loop(reader, span),
            "assign" => {
                self.is_blank = true;
                assign(reader, span)
            }
            "capture" => self.capture(reader, span),
            "break" | "continue" => {
                self.is_blank = false;
                self.jump(name, &reader, span)
            }
            other => self.fail(span, unknown_tag(other)),
        }
    }

    /// Ends a tag with bodies. Where none of them prints anything, their whitespace isn't printed either.
    fn finish<'b>(&mut self, is_blank: bool, bodies: impl Iterator<Item = &'b mut Vec<Node>>) {
        self.is_blank = is_blank;
        if is_blank {
            bodies.for_each(|body| body.retain(|node| !matches!(node, Node::Text(_))));
        }
    }

    fn conditional(
        &mut self,
        name: &'static str,
        negated: bool,
        mut reader: Reader<'s>,
        span: Span,
    ) -> Result<Node, SyntaxError> {
        let close = if negated { "endunless" } else { "endif" };
        let (mut negated, mut is_blank) = (negated, true);
        let mut branches = Vec::new();
        loop {
            let condition = reader.condition()?;
            let (body, mut end) = self.inside(name, span, &["elsif", "else", close], &mut is_blank)?;
            branches.push(Branch { negated, condition, body });
            if branches.len() > MAX_BRANCHES {
                return self.fail(span, too_many_branches(name));
            }
            negated = false;
            if end.name == "elsif" {
                reader = end.reader;
                continue;
            }
            let mut otherwise = None;
            if end.name == "else" {
                end.reader.end()?;
                let (body, closing) = self.inside(name, span, &[close], &mut is_blank)?;
                otherwise = Some(body);
                end = closing;
            }
            end.reader.end()?;
            let bodies = branches.iter_mut().map(|branch| &mut branch.body).chain(&mut otherwise);
            self.finish(is_blank, bodies);
            return Ok(Node::If(If { branches, otherwise }));
        }
    }

    fn case(&mut self, mut reader: Reader<'s>, span: Span) -> Result<Node, SyntaxError> {
        let subject = reader.expr()?;
        reader.end()?;
        // Whatever precedes the first `when` belongs to no alternative and is dropped.
        let mut is_blank = true;
        let (_, mut end) = self.inside("case", span, &["when", "else", "endcase"], &mut is_blank)?;
        let mut case = Case { subject, whens: Vec::new(), otherwise: None, span };
        while end.name == "when" {
            let mut values = vec![end.reader.expr()?];
            while end.reader.take_sign(",") || end.reader.take_word("or") {
                if values.len() == MAX_BRANCHES {
                    return self.fail(end.span, too_many_branches("case"));
                }
                values.push(end.reader.expr()?);
            }
            end.reader.end()?;
            let (body, next) = self.inside("case", span, &["when", "else", "endcase"], &mut is_blank)?;
            case.whens.push(When { values, body });
            if case.whens.len() > MAX_BRANCHES {
                return self.fail(span, too_many_branches("case"));
            }
            end = next;
        }
        if end.name == "else" {
            end.reader.end()?;
            let (body, closing) = self.inside("case", span, &["endcase"], &mut is_blank)?;
            case.otherwise = Some(body);
            end = closing;
        }
        end.reader.end()?;
        let bodies = case.whens.iter_mut().map(|when| &mut when.body).chain(&mut case.otherwise);
        self.finish(is_blank, bodies);
        Ok(Node::Case(case))
    }

    fn for_loop(&mut self, mut reader: Reader<'s>, span: Span) -> Result<Node, SyntaxError> {
        let variable = reader.word("a name for the element")?;
        if !reader.take_word("in") {
            return reader.error("expected `in`");
        }
        let list = reader.expr()?;
        let (mut limit, mut offset, mut reversed) = (None, None, false);
        while !reader.is_done() {
            if reader.take_word("reversed") {
                reversed = true;
            } else if reader.take_word("limit") && reader.take_sign(":") {
                limit = Some(reader.expr()?);
            } else if reader.take_word("offset") && reader.take_sign(":") {
                offset = Some(reader.expr()?);
            } else if !reader.take_sign(",") {
                return reader.error("expected `limit:`, `offset:` or `reversed`");
            }
        }
        self.loops += 1;
        let mut is_blank = true;
        let (mut body, mut end) = self.inside("for", span, &["else", "endfor"], &mut is_blank)?;
        self.loops -= 1;
        let mut otherwise = None;
        if end.name == "else" {
            end.reader.end()?;
            let (body, closing) = self.inside("for", span, &["endfor"], &mut is_blank)?;
            otherwise = Some(body);
            end = closing;
        }
        end.reader.end()?;
        self.finish(is_blank, std::iter::once(&mut body).chain(&mut otherwise));
        Ok(Node::For(Box::new(For { variable, list, limit, offset, reversed, body, otherwise, span })))
    }

    fn capture(&mut self, mut reader: Reader<'s>, span: Span) -> Result<Node, SyntaxError> {
        let name = reader.name()?;
        reader.end()?;
        let (body, end) = self.inside("capture", span, &["endcapture"], &mut true)?;
        end.reader.end()?;
        self.is_blank = true;
        Ok(Node::Capture(Capture { name, body, span }))
    }

    fn jump(&self, name: &str, reader: &Reader<'s>, span: Span) -> Result<Node, SyntaxError> {
        reader.end()?;
        if self.loops == 0 {
            return self.fail(span, format!("`{name}` is outside of `for`"));
        }
        Ok(if name == "break" { Node::Break } else { Node::Continue })
    }
}

fn assign(mut reader: Reader<'_>, span: Span) -> Result<Node, SyntaxError> {
    let name = reader.word("a name")?;
    if !reader.take_sign("=") {
        return reader.error("expected `=`");
    }
    let value = reader.filtered(span)?;
    Ok(Node::Assign(Assign { name, value, span }))
}

fn too_many_branches(name: &str) -> String {
    format!("`{name}` has more than {MAX_BRANCHES} branches; put the text in the event instead")
}

fn is_end(name: &str) -> bool {
    matches!(name, "else" | "elsif" | "when") || name.starts_with("end")
}

fn unknown_tag(name: &str) -> String {
    if name == "render" {
        return "`render` is not supported; write `{% include 'name' %}` to insert a partial".to_owned();
    }
    match super::filters::nearest(name, TAGS.into_iter()) {
        Some(known) => format!("unknown tag `{name}`; did you mean `{known}`?"),
        None => format!("unknown tag `{name}`; known tags: {}", TAGS.join(", ")),
    }
}

//! How deep and how large a text is for the converter, counted before it is converted.

use htmlparser::{ElementEnd, Token, Tokenizer};

use super::{MAX_NESTING, VOID};

/// What the converter will do with a text, counted by the tokens that it reads.
#[derive(Debug, Default)]
pub struct Measure {
    /// Elements, opened or empty.
    pub elements: usize,
    /// Bytes of the attributes that every element gets.
    shared: usize,
    /// Bytes of the attributes of the element that has most of them: some hand theirs on to each child.
    longest: usize,
}

impl Measure {
    /// Counts as the converter's parser does: whatever its tokenizer takes for a start is a level, unless it is empty
    /// or of an element without an end; any end closes one.
    ///
    /// # Errors
    /// Where elements are nested more than [`MAX_NESTING`] deep.
    pub fn of(text: &str) -> Result<Self, usize> {
        let mut measure = Self::default();
        let (mut depth, mut name, mut attributes, mut shared_from) = (0_usize, "", 0, None);
        // What the tokenizer can't read the converter refuses.
        for token in Tokenizer::from(text).map_while(Result::ok) {
            match token {
                Token::ElementStart { local, span, .. } => {
                    (name, attributes) = (local.as_str(), 0);
                    measure.elements += 1;
                    if depth >= MAX_NESTING && !VOID.contains(&name) {
                        return Err(span.start());
                    }
                }
                Token::Attribute { span, .. } => {
                    attributes += span.as_str().len();
                    measure.shared += shared_from.map_or(0, |_| span.as_str().len());
                    measure.longest = measure.longest.max(attributes);
                }
                Token::ElementEnd { end: ElementEnd::Open, .. } if !VOID.contains(&name) => {
                    depth += 1;
                    if name == "mj-attributes" {
                        shared_from = shared_from.or(Some(depth));
                    }
                }
                Token::ElementEnd { end: ElementEnd::Close(..), .. } => {
                    shared_from = shared_from.filter(|from| depth > *from);
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
        }
        Ok(measure)
    }

    /// The maximum size of the HTML in bytes: every element with all attributes that it may be given.
    pub fn bytes(&self, text: &str) -> usize {
        (self.shared + self.longest).saturating_mul(self.elements).saturating_add(text.len())
    }
}

//! Usage errors.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory};

/// Prints a usage error and exits. Its usage line is the command's own: clap's lists every argument that has a value,
/// also
/// those that the environment set.
pub(super) fn exit(mut error: clap::Error) -> ! {
    if error.get(ContextKind::Usage).is_some() {
        let mut root = super::Cli::command();
        root.build();
        let words: Vec<String> = std::env::args().skip(1).collect();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage_of(&mut root, &words)));
    }
    error.exit()
}

/// The usage line of the subcommand that these arguments call.
fn usage_of(command: &mut Command, words: &[String]) -> StyledStr {
    let Some((word, rest)) = words.split_first() else { return command.render_usage() };
    if let Some(inner) = command.find_subcommand_mut(word) {
        return usage_of(inner, rest);
    }
    usage_of(command, rest)
}

/// Parses a recipient such as `external_id=user-42`.
///
/// # Errors
/// If the label is missing.
pub(super) fn recipient(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((label, id)) if !label.is_empty() && !id.is_empty() => Ok(text.to_owned()),
        Some(_) => Err(format!("`{text}` is incomplete: write external_id=user-42")),
        None => Err(format!("`{text}` has no label: write external_id={text}")),
    }
}

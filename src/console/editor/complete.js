// Completions by position: event values in outputs and tags, filters after a pipe, tag names at the
// start of a tag.
import { snippetCompletion } from "@codemirror/autocomplete";

/// Snippets for block tags.
const pieces = {
  if: "if ${condition} %}${}{% endif %}",
  unless: "unless ${condition} %}${}{% endunless %}",
  case: "case ${value} %}{% when ${\"a\"} %}${}{% endcase %}",
  for: "for ${item} in ${data.items} %}${}{% endfor %}",
  assign: "assign ${name} = ${value} %}",
  capture: "capture ${name} %}${}{% endcapture %}",
  comment: "comment %}${}{% endcomment %}",
  raw: "raw %}${}{% endraw %}",
};

/// The text between the last unclosed opening delimiter and the cursor.
function inside(text) {
  const output = text.lastIndexOf("{{");
  const tag = text.lastIndexOf("{%");
  const start = Math.max(output, tag);
  if (start < 0) return null;
  const rest = text.slice(start + 2);
  return /}}|%}/.test(rest) ? null : { isTag: tag > output, rest: rest.replace(/^-/, "") };
}

/// Closes an open output after the completion.
function closing(view, completion, from, to) {
  const behind = view.state.sliceDoc(to, view.state.doc.lineAt(to).to);
  const isOpen = !/^[^{]*}}/.test(behind);
  const blank = view.state.sliceDoc(from - 2, from) === "{{" ? " " : "";
  const text = blank + completion.label;
  view.dispatch({
    changes: { from, to, insert: isOpen ? `${text} }}` : text },
    selection: { anchor: from + text.length },
    userEvent: "input.complete",
  });
}

export function completing({ variables, filters, tags }) {
  const values = (isTag) => variables.map(({ path, type, required }) => ({
    label: path,
    detail: required ? type : `${type}, optional`,
    boost: required ? 1 : 0,
    apply: isTag ? undefined : closing,
  }));
  const tagOptions = tags.map((tag) => (pieces[tag] ? snippetCompletion(pieces[tag], { label: tag }) : { label: tag }));
  const filterOptions = filters.map((filter) => ({ label: filter }));
  return (context) => {
    const found = inside(context.state.sliceDoc(Math.max(0, context.pos - 2000), context.pos));
    if (!found) return null;
    const word = /[\w.]*$/.exec(found.rest)[0];
    const before = found.rest.slice(0, found.rest.length - word.length);
    const from = context.pos - word.length;
    const validFor = /^[\w.]*$/;
    if (/\|\s*$/.test(before)) return { from, options: filterOptions, validFor };
    if (found.isTag && before.trim() === "") return { from, options: tagOptions, validFor };
    if (/["']$/.test(before)) return null;
    if (before.trim() !== "" && !found.isTag && !/[:,([]\s*$/.test(before)) return null;
    return { from, options: values(found.isTag || before.trim() !== ""), validFor };
  };
}

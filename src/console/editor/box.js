// An editor for one field. Its content is mirrored to the text area that the form submits.
import { autocompletion, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { liquidLanguage } from "@codemirror/lang-liquid";
import { bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap } from "@codemirror/view";
import { classHighlighter } from "@lezer/highlight";
import { completing } from "./complete.js";

/// A single-line field stays on one line: pasted line breaks become spaces.
const oneLine = [
  EditorView.clipboardInputFilter.of((text) => text.replace(/\s*\n\s*/g, " ")),
  EditorState.transactionFilter.of((change) => (change.newDoc.lines > 1 ? [] : change)),
];

// Tab moves to the next field, so there is no keyboard trap.
export function box(area, words, nonce) {
  const label = area.closest("label");
  const isOneLine = "lines" in area.dataset && !area.value.includes("\n");
  const mirror = EditorView.updateListener.of((update) => {
    if (!update.docChanged) return;
    const text = update.state.doc.toString();
    if (text === area.value) return;
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
  });
  const extensions = [
    history(),
    keymap.of([...completionKeymap, ...defaultKeymap, ...historyKeymap]),
    liquidLanguage,
    autocompletion({ override: [completing(words)], icons: false }),
    syntaxHighlighting(classHighlighter),
    bracketMatching(),
    EditorView.lineWrapping,
    EditorView.cspNonce.of(nonce),
    EditorView.editorAttributes.of({ "data-box": area.name }),
    EditorView.contentAttributes.of({
      "aria-label": label.querySelector("[data-name]").textContent,
      lang: area.lang,
      spellcheck: area.getAttribute("spellcheck"),
    }),
    EditorState.readOnly.of(area.readOnly),
    isOneLine ? oneLine : [],
    mirror,
  ];
  const view = new EditorView({ doc: area.value, extensions });
  view.dom.style.setProperty("--rows", area.rows);
  area.hidden = true;
  label.after(view.dom);
  label.addEventListener("click", (event) => { event.preventDefault(); view.focus(); });
  return view;
}

/// Replaces the text of a box.
export function rewrite(view, text) {
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
}

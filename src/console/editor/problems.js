// Problems found by the preview: underlined in place, and clickable.
import { setDiagnostics } from "@codemirror/lint";

/// The offset of a 1-based line and column, counted in characters.
function offset(doc, line, column) {
  const row = doc.line(Math.min(line, doc.lines));
  const before = [...row.text].slice(0, Math.max(0, column - 1)).join("");
  return Math.min(row.from + before.length, row.to);
}

/// The range to underline: the expression that starts there, or the rest of the line.
function span(doc, problem) {
  const from = offset(doc, Number(problem.dataset.line ?? 1), Number(problem.dataset.column ?? 1));
  const rest = doc.sliceString(from, doc.lineAt(from).to);
  const length = /^(\{\{.*?\}\}|\{%.*?%\}|[\w.]+|.)/.exec(rest)?.[0].length ?? 0;
  return { from, to: from + length };
}

function boxOf(boxes, problem) {
  const { locale, field } = problem.dataset;
  return boxes.get(`copy.${locale}.${field}`);
}

export function showProblems(boxes) {
  const problems = [...document.querySelectorAll("#preview [data-field]")];
  for (const view of boxes.values()) {
    const own = problems.filter((problem) => boxOf(boxes, problem) === view && problem.dataset.line);
    const marks = own.map((problem) => ({
      ...span(view.state.doc, problem),
      severity: problem.classList.contains("error") ? "error" : "warning",
      message: problem.dataset.says,
    }));
    marks.sort((a, b) => a.from - b.from);
    view.dispatch(setDiagnostics(view.state, marks));
  }
  for (const problem of problems) {
    const view = boxOf(boxes, problem);
    problem.querySelector("[data-goes]")?.addEventListener("click", () => {
      if (!view) return;
      for (let around = view.dom.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
      const { from, to } = span(view.state.doc, problem);
      view.dispatch({ selection: { anchor: from, head: to }, scrollIntoView: true });
      view.focus();
    });
  }
}

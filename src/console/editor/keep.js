// Unsaved work survives a reload, a crash and a server outage: the browser keeps it until the page loads with the
// same text.
import { rewrite } from "./box.js";

export function keep(form, boxes) {
  const place = `herald draft ${form.dataset.keeps}`;
  const said = form.querySelector("[data-saved]");
  if (!said) return;
  const values = () => Object.fromEntries([...boxes].map(([name, box]) => [name, box.state.doc.toString()]));
  // During a merge, neither text counts as saved.
  const isMerge = form.querySelector(".theirs") !== null;
  const first = isMerge ? null : JSON.stringify(values());
  let isSaving = false;

  const kept = JSON.parse(localStorage.getItem(place) ?? "null");
  const differs = ([name, box]) => name in kept.values && kept.values[name] !== box.state.doc.toString();
  if (kept && [...boxes].some(differs)) {
    const back = Object.assign(document.createElement("button"), { type: "button", textContent: "Restore" });
    back.addEventListener("click", () => {
      for (const [name, box] of [...boxes].filter(differs)) rewrite(box, kept.values[name]);
      said.textContent = "Restored, unsaved changes";
    });
    said.replaceChildren(`Unsaved changes from ${new Date(kept.at).toLocaleString()}: `, back);
  } else if (!isMerge) {
    localStorage.removeItem(place);
  }

  form.addEventListener("input", (event) => {
    if (!event.target.name?.startsWith("copy.")) return;
    localStorage.setItem(place, JSON.stringify({ at: Date.now(), values: values() }));
    said.textContent = "Unsaved changes";
  });
  // Any confirmation has been answered by now.
  document.addEventListener("submit", (event) => { isSaving = event.target === form && !event.defaultPrevented; });
  addEventListener("beforeunload", (event) => {
    if (!isSaving && JSON.stringify(values()) !== first) event.preventDefault();
  });
}

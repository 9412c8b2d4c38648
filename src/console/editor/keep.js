// Work that is not saved outlives a reload, a crash and a server that is away: this browser keeps it until the page comes
// back with the same words.
import { rewrite } from "./box.js";

export function keep(form, boxes) {
  const place = `herald draft ${form.dataset.keeps}`;
  const said = form.querySelector("[data-saved]");
  if (!said) return;
  const values = () => Object.fromEntries([...boxes].map(([name, box]) => [name, box.state.doc.toString()]));
  // Two texts that are to be put together are not saved, either of them.
  const isMerge = form.querySelector(".theirs") !== null;
  const first = isMerge ? null : JSON.stringify(values());
  let isSaving = false;

  const kept = JSON.parse(localStorage.getItem(place) ?? "null");
  const differs = ([name, box]) => name in kept.values && kept.values[name] !== box.state.doc.toString();
  if (kept && [...boxes].some(differs)) {
    const back = Object.assign(document.createElement("button"), { type: "button", textContent: "Bring it back" });
    back.addEventListener("click", () => {
      for (const [name, box] of [...boxes].filter(differs)) rewrite(box, kept.values[name]);
      said.textContent = "Brought back, not saved yet";
    });
    said.replaceChildren(`Not saved since ${new Date(kept.at).toLocaleString()}: `, back);
  } else if (!isMerge) {
    localStorage.removeItem(place);
  }

  form.addEventListener("input", (event) => {
    if (!event.target.name?.startsWith("copy.")) return;
    localStorage.setItem(place, JSON.stringify({ at: Date.now(), values: values() }));
    said.textContent = "Not saved yet";
  });
  // Whatever asks before it is sent has asked by now.
  document.addEventListener("submit", (event) => { isSaving = event.target === form && !event.defaultPrevented; });
  addEventListener("beforeunload", (event) => {
    if (!isSaving && JSON.stringify(values()) !== first) event.preventDefault();
  });
}

// The editor page: code editors for the template language, persistent unsaved work, inserting values by click, inline
// problems. The text areas remain the form's fields and work without this file.
import { box } from "./box.js";
import { keep } from "./keep.js";
import { showProblems } from "./problems.js";

const form = document.querySelector("#editor");
const words = {
  variables: JSON.parse(form.dataset.variables),
  filters: form.dataset.filters.split(" "),
  tags: form.dataset.tags.split(" "),
};
const areas = [...form.querySelectorAll("textarea[name^='copy.']")];
const boxes = new Map(areas.map((area) => [area.name, box(area, words, form.dataset.nonce)]));
let last = boxes.values().next().value;
for (const one of boxes.values()) one.contentDOM.addEventListener("focus", () => { last = one; });

keep(form, boxes);

// Inserts a value at the last cursor position.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-inserts]");
  if (!button || !last) return;
  last.dispatch(last.state.replaceSelection(button.dataset.inserts));
  last.focus();
});

form.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") { event.preventDefault(); form.requestSubmit(); }
});

// The device previews show the open locale.
function showOpen() {
  const open = form.querySelector("details.locale[open]")?.dataset.locale;
  const shown = [...document.querySelectorAll("section.shown")];
  if (!shown.some((one) => one.dataset.locale === open)) return;
  for (const one of shown) one.hidden = one.dataset.locale !== open;
}
for (const one of form.querySelectorAll("details.locale")) one.addEventListener("toggle", showOpen);

document.addEventListener("htmx:afterSwap", () => { showOpen(); showProblems(boxes); });

// Progressive enhancement: live updates, copy buttons, keyboard navigation. All pages are readable without it.
"use strict";
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

// Toasts: errors of a part of the page.
let toastTimer;
function toast(text) {
  const box = $("#toast");
  if (!box) return;
  box.textContent = text;
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.hidden = true; }, 6000);
}
document.addEventListener("htmx:responseError", (event) => toast(event.detail.xhr.responseText.slice(0, 300)));
document.addEventListener("htmx:sendError", () => toast("Herald is not responding. This page may be out of date."));

// Live: rows are refreshed while the page is visible and not paused.
const live = $("[data-live]");
let isPaused = false;
const pause = $("[data-pauses]");
if (pause) {
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.textContent = isPaused ? "Resume updates" : "Pause updates";
    if (!isPaused) refresh();
  });
}
let isAsking = false;
async function refresh() {
  if (!live || isPaused || isAsking || document.hidden) return;
  if (live.contains(document.activeElement) && document.activeElement.matches("button, input, summary")) return;
  isAsking = true;
  try {
    const newest = $("table", live)?.dataset.newest ?? "";
    const answer = await fetch(`${live.dataset.live}&newest=${encodeURIComponent(newest)}`, { headers: { "HX-Request": "true" } });
    if (answer.headers.has("hx-redirect")) { location.assign(answer.headers.get("hx-redirect")); return; }
    const text = await answer.text();
    if (!answer.ok) { toast(text.slice(0, 300)); return; }
    const focused = document.activeElement?.id;
    live.innerHTML = text;
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  } catch {
    toast("Herald is not responding. This page may be out of date.");
  } finally {
    isAsking = false;
  }
}
if (live) {
  setInterval(refresh, 2000);
  document.addEventListener("visibilitychange", refresh);
}

// Relative times are updated.
function ago(at) {
  const gap = (Date.now() - at) / 1000;
  const size = Math.abs(gap);
  const text = size < 60 ? `${Math.floor(size)} s` : size < 3600 ? `${Math.floor(size / 60)} min`
    : size < 172800 ? `${Math.floor(size / 3600)} h` : `${Math.floor(size / 86400)} d`;
  return text === "0 s" ? "now" : gap >= 0 ? `${text} ago` : `in ${text}`;
}
setInterval(() => {
  for (const time of $$("time:not(.exact)")) time.textContent = ago(Date.parse(time.dateTime));
}, 15000);

// Copying.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copies);
    button.textContent = "Copied";
  } catch {
    toast(button.dataset.copies);
  }
  setTimeout(() => { button.textContent = said; }, 1500);
});

// A confirmation before destructive actions, where a form requests one.
document.addEventListener("submit", (event) => {
  const form = event.target;
  const button = event.submitter;
  const question = button?.dataset.asks ?? form.dataset.asks;
  if (question && !confirm(question)) { event.preventDefault(); return; }
  if (button && !form.method.includes("dialog")) setTimeout(() => { button.disabled = true; }, 0);
});
window.addEventListener("pageshow", () => { for (const button of $$("button:disabled")) button.disabled = false; });

// An invitation's token is in the URL fragment, which no server and no log sees.
for (const field of $$("[data-from-hash]")) {
  if (location.hash.length > 1) {
    field.value = location.hash.slice(1);
    history.replaceState(null, "", location.pathname);
    $("input[type=password]")?.focus();
  }
}

// Command palette.
const palette = $("#palette");
if (palette) {
  const input = $("input", palette);
  const list = $("ul", palette);
  const fixed = $$("li", list);
  let asked = 0;
  const shown = () => $$("li:not([hidden])", list);
  function choose(place) {
    const rows = shown();
    for (const row of $$("li", list)) row.setAttribute("aria-selected", "false");
    const row = rows[(place + rows.length) % rows.length];
    if (row) { row.setAttribute("aria-selected", "true"); row.scrollIntoView({ block: "nearest" }); }
  }
  const chosen = () => shown().findIndex((row) => row.getAttribute("aria-selected") === "true");
  async function narrow() {
    const words = input.value.trim().toLowerCase();
    for (const row of fixed) row.hidden = words !== "" && !row.textContent.toLowerCase().includes(words);
    const mine = ++asked;
    const found = words.length < 2 ? "" : await fetch(`/palette?q=${encodeURIComponent(input.value.trim())}`, { headers: { "HX-Request": "true" } })
      .then((answer) => (answer.ok ? answer.text() : "")).catch(() => "");
    if (mine !== asked) return;
    for (const row of $$("li", list)) if (!fixed.includes(row)) row.remove();
    list.insertAdjacentHTML("beforeend", found);
    choose(0);
  }
  function open() { palette.showModal(); input.value = ""; narrow(); input.focus(); }
  input.addEventListener("input", narrow);
  palette.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      choose(chosen() + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      const link = $("a", shown()[chosen()] ?? document.createElement("p"));
      if (link) location.assign(link.href);
    }
  });
  palette.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });
  for (const button of $$("[data-opens=palette]")) button.addEventListener("click", open);
  let isGoing = false;
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      open();
    } else if (!isTyping && !event.ctrlKey && !event.metaKey && !event.altKey && !palette.open) {
      if (event.key === "/") { event.preventDefault(); $("#find")?.focus(); }
      else if (isGoing) { isGoing = false; $(`.rail a[data-key="${CSS.escape(event.key)}"]`)?.click(); }
      else if (event.key === "g") { isGoing = true; setTimeout(() => { isGoing = false; }, 1200); }
    }
  });
}

// The condition builder appends to the expression.
for (const box of $$("[data-builds]")) {
  const [path, comparison] = $$("select", box);
  const other = $("input", box);
  for (const button of $$("[data-joins]", box)) {
    button.addEventListener("click", () => {
      const target = $(`[name="${box.dataset.builds}"]`, box.closest("form"));
      const kind = path.selectedOptions[0]?.dataset.kind ?? "string";
      const text = other.value.trim();
      const value = kind.startsWith("number") ? (/^-?\d+$/.test(text) ? `${text}.0` : text) : /^(integer|boolean)/.test(kind) ? text : JSON.stringify(text);
      const how = comparison.value;
      const part = how === "has" ? `has(${path.value})` : /^[a-z]/i.test(how) ? `${path.value}.${how}(${JSON.stringify(text)})` : `${path.value} ${how} ${value}`;
      target.value = target.value.trim() ? `${target.value.trim()} ${button.dataset.joins} ${part}` : part;
      target.focus();
    });
  }
}

// Emails are shown in sandboxed frames; each requests its content once it is loaded.
addEventListener("message", (event) => {
  const frame = $$("iframe[data-html]").find((one) => one.contentWindow === event.source);
  if (frame) event.source.postMessage(frame.dataset.html, "*");
});

// Images of an email are loaded only on request, and only for this view.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-loads-images]");
  if (!button) return;
  for (const frame of $$("iframe[data-html]", button.closest(".mail"))) frame.src = "/mail-frame?images=yes";
  button.closest("p").remove();
});

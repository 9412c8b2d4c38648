// Adds new messages as they arrive. Cards are rendered and escaped by the server.
"use strict";

const KEPT = 50;
const cards = document.getElementById("cards");
const empty = document.getElementById("empty");
const state = document.getElementById("state");

function localTimes(within) {
  for (const time of within.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const today = at.toDateString() === new Date().toDateString();
    time.textContent = today ? at.toLocaleTimeString() : at.toLocaleString();
  }
}

function say(text, alive) {
  state.textContent = text;
  state.classList.toggle("alive", alive);
}

function insert(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  const card = holder.content.firstElementChild;
  if (!card || document.getElementById(card.id)) return;
  localTimes(card);
  card.classList.add("new");
  cards.prepend(card);
  empty.hidden = true;
  while (cards.children.length > KEPT) cards.lastElementChild.remove();
}

function listen() {
  const source = new EventSource("/_sandbox/events?after=" + cards.dataset.newest);
  source.addEventListener("open", () => say("Live", true));
  source.addEventListener("error", () => say("Reconnecting…", false));
  source.addEventListener("message", (event) => insert(event.data));
  source.addEventListener("reset", () => {
    cards.replaceChildren();
    empty.hidden = false;
  });
}

function copies() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
}

localTimes(document);
copies();
if (state?.dataset.live === "true") listen();

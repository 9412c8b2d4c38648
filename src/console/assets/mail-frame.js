// Shows a mail in a frame of its own, whose page has no origin and may load nothing; images from elsewhere where somebody asked for them.
"use strict";
addEventListener("message", (event) => {
  if (event.source === parent && typeof event.data === "string") document.documentElement.innerHTML = event.data;
});
parent.postMessage("the mail, please", "*");

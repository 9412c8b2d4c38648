// Shows an email in a sandboxed frame without an origin, which may load nothing except images on request.
"use strict";
addEventListener("message", (event) => {
  if (event.source === parent && typeof event.data === "string") document.documentElement.innerHTML = event.data;
});
parent.postMessage("the mail, please", "*");

// Relative times and the state of the live link. Everything else is HTML from the server.
"use strict";

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function ago(seconds) {
  if (seconds < 2) return "now";
  for (const [size, unit] of UNITS) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return "now";
}

function refreshTimes() {
  const now = Date.now() / 1000;
  for (const time of document.querySelectorAll("time[data-s]")) {
    const at = Number(time.dataset.s);
    const text = ago(now - at);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = new Date(at * 1000).toLocaleString();
  }
}

function showLink(tone, text) {
  const link = document.getElementById("link");
  link.className = `chip ${tone}`;
  link.textContent = text;
}

function showNotice(text) {
  const notice = document.getElementById("notice");
  notice.textContent = text;
  notice.hidden = false;
  setTimeout(() => { notice.hidden = true; }, 10000);
}

document.body.addEventListener("htmx:sseOpen", () => showLink("good", "live"));
document.body.addEventListener("htmx:sseError", () => showLink("bad", "connection lost"));
document.body.addEventListener("htmx:sseMessage", refreshTimes);
document.body.addEventListener("htmx:afterSwap", refreshTimes);
document.body.addEventListener("htmx:responseError", (event) => {
  let text = `the server answered ${event.detail.xhr.status}`;
  try { text = JSON.parse(event.detail.xhr.responseText).error || text; } catch { /* not JSON: the status says enough */ }
  showNotice(text);
});
document.body.addEventListener("htmx:sendError", () => showNotice("the server cannot be reached"));
setInterval(refreshTimes, 1000);
refreshTimes();

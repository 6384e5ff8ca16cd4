// The Workers page: up to date while somebody looks at it; engines and slots are paused without leaving it.
import { announce, icon } from "./controls.js";
import { Fresh, LoggedOut } from "./fresh.js";
import { morph } from "./morph.js";
import { showTimes, write } from "./times.js";

const EVERY_MS = 2000;
const RETRY_MS = 5000;
const DONE = { pause: "Paused", drain: "Draining", run: "Resumed" };
const page = document.getElementById("workers");
const fresh = new Fresh();
let timer = 0;
let underWay = false;
let again = false;
let answeredAt = Date.now();

async function look() {
  clearTimeout(timer);
  if (underWay) again = true;
  if (underWay || document.hidden) return;
  underWay = true;
  const wait = await ask();
  underWay = false;
  if (wait) timer = setTimeout(look, again ? 0 : wait);
  again = false;
}

// Returns in how many milliseconds to ask again; 0 is never.
async function ask() {
  try {
    const answer = await fresh.get(page.dataset.url);
    if (answer) show(await answer.text());
    answeredAt = Date.now();
    showAge();
    return EVERY_MS;
  } catch (error) {
    return error instanceof LoggedOut ? 0 : RETRY_MS;
  }
}

function show(html) {
  const wanted = page.cloneNode(false);
  wanted.innerHTML = html;
  showTimes(wanted);
  showAge(wanted);
  morph(page, wanted);
}

function showAge(root = page) {
  write(root.querySelector("[data-updated]"), `Updated ${Math.floor((Date.now() - answeredAt) / 1000)} s ago`);
}

async function setMode(button) {
  button.setAttribute("aria-disabled", "true");
  const words = button.textContent;
  const token = document.querySelector("#act [name=csrfmiddlewaretoken]").value;
  const body = new URLSearchParams({ csrfmiddlewaretoken: token, mode: button.value });
  const answer = await fetch(button.formAction, { method: "POST", body, redirect: "manual" }).catch(() => null);
  if (answer?.type === "opaqueredirect") {
    announce(`${DONE[button.value]}: ${words.replace(/^\w+ /, "")}`);
  } else {
    button.replaceChildren(icon("alert-triangle", 14), "Not sent, try again");
  }
  button.removeAttribute("aria-disabled");
  look();
}

page.addEventListener("click", (event) => {
  const button = event.target.closest("button[name=mode]");
  if (!button) return;
  event.preventDefault();
  if (button.getAttribute("aria-disabled") !== "true") setMode(button);
});
document.addEventListener("visibilitychange", look);
setInterval(() => {
  showTimes(page);
  showAge();
}, 1000);
timer = setTimeout(look, EVERY_MS);
showAge();

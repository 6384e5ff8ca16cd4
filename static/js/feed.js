// Jobs on the page, whether in the feed or as rows: kept up to date, cancelled, announced.
import { post } from "./api.js";
import { announce, icon } from "./controls.js";
import { morph } from "./morph.js";
import { showTimes } from "./times.js";
import { lookNow, onJobs, watch } from "./watch.js";

const SAY = { running: "Started", succeeded: "Done", failed: "Failed", cancelled: "Cancelled" };

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

// ``add`` puts a job that is not on the page yet; without it such a job is left out.
export function showJobs(jobs, add) {
  for (const { id, html, state } of jobs) {
    const wanted = html && parse(html);
    if (!wanted) continue;
    showTimes(wanted);
    const old = document.getElementById(`job-${id}`);
    if (!old) add?.(wanted);
    else update(old, wanted, state);
  }
}

function update(old, wanted, state) {
  const before = old.dataset.state;
  const pictures = new Set(old.querySelectorAll("img.drawn"));
  const hadFocus = old.contains(document.activeElement);
  morph(old, wanted);
  old.querySelectorAll("img.drawn").forEach((image) => pictures.has(image) || fadeIn(image));
  if (hadFocus && !old.contains(document.activeElement)) old.querySelector("a, button")?.focus();
  if (before !== state && SAY[state]) announce(`${SAY[state]}: ${promptOf(old)}`);
}

function promptOf(element) {
  return element.querySelector(".job-prompt, .row-prompt").textContent.trim().slice(0, 80);
}

function fadeIn(image) {
  const show = () => image.classList.remove("arriving");
  image.loading = "eager";
  image.classList.add("arriving");
  image.decode().then(show, show);
}

async function cancel(button) {
  button.setAttribute("aria-disabled", "true");
  const { ok, status } = await post(button.dataset.cancel);
  if (!ok && status !== 409) {
    button.removeAttribute("aria-disabled");
    button.replaceChildren(icon("alert-triangle", 14), "Not sent, cancel again");
  }
  lookNow();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-cancel]");
  if (!button) return;
  event.preventDefault();
  if (button.getAttribute("aria-disabled") !== "true") cancel(button);
});

if (document.body.dataset.jobsAs && !document.getElementById("feed")) onJobs((jobs) => showJobs(jobs));
watch([...document.querySelectorAll("[data-job][data-active=yes]")].map((element) => element.dataset.job));

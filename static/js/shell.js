// Every page with the bar on top: controls, jobs in flight, keys, times.
import { startControls } from "./controls.js";
import { recall, remember } from "./memory.js";
import { showTimes } from "./times.js";
import { startUsage } from "./usage.js";
import { activeCount, onJobs, watch } from "./watch.js";

const flight = document.getElementById("in-flight");

function showFlight(jobs) {
  flight.hidden = activeCount() === 0;
  flight.querySelector("b").textContent = activeCount();
  const job = jobs.find(({ state }) => state === "running") ?? jobs.find(({ state }) => state === "queued");
  if (!job) return;
  const drawing = job.stage === "drawing";
  const bar = flight.querySelector("progress");
  if (bar) bar.value = job.step;
  flight.querySelectorAll(".meter i").forEach((part, i) => {
    part.className = i < job.step ? "full" : drawing && i === job.step ? "half" : "";
  });
}

function typing(target) {
  return target.closest("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]");
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) location.assign(link.href);
}

const KEYS = {
  p: () => {
    const prompt = document.getElementById("prompt");
    if (prompt) prompt.focus();
    else location.assign(document.body.dataset.generateUrl);
  },
  s: () => document.getElementById("seed")?.focus(),
  X: ({ shiftKey }) => shiftKey && document.querySelector("[data-cancel]:not([aria-disabled=true])")?.click(),
  g: () => location.assign(document.body.dataset.galleryUrl),
  h: () => location.assign(document.body.dataset.historyUrl),
  r: () => follow("#remix, [data-remix]"),
  ".": () => document.getElementById("favourite")?.click(),
  Delete: () => document.getElementById("trash")?.click(),
  ArrowLeft: () => follow("#newer"),
  ArrowRight: () => follow("#older"),
  "?": () => document.getElementById("keys").showModal(),
};

// Keys of one page; a function with ``repeats`` is also called while its key is held. "Ctrl+a" is ⌘A, too.
export function addKeys(keys) {
  Object.assign(KEYS, keys);
}

function named({ key, ctrlKey, metaKey }) {
  return ctrlKey || metaKey ? `Ctrl+${key}` : key;
}

function startKeys() {
  const single = document.getElementById("single-keys");
  single.checked = recall("single-keys") !== "off";
  single.addEventListener("change", () => remember("single-keys", single.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey) return;
    if (!single.checked || typing(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key.startsWith("Arrow") && event.target.closest("input:not([type=checkbox]), [role=slider], pre")) return;
    const act = KEYS[named(event)];
    if (!act || (event.repeat && !act.repeats)) return;
    event.preventDefault();
    act(event);
  });
}

startControls();
startUsage();
startKeys();
showTimes();
setInterval(showTimes, 60_000);
onJobs(showFlight);
watch(flight.dataset.ids.split(","));
document.addEventListener("jobs-sent", () => showFlight([]));

// Two pictures under a line, side by side, or as their difference. Until the second is there, waits for it.
import { announce } from "./controls.js";
import { recall, remember } from "./memory.js";
import { onJobs } from "./watch.js";

const compare = document.getElementById("compare");
const pair = document.getElementById("pair");
const waited = compare.querySelector("[data-job][data-active=yes]")?.dataset.job;

if (pair) start();
else if (waited) onJobs((jobs) => jobs.some(({ id, state }) => id === waited && state !== "queued" && state !== "running") && location.reload());

function start() {
  const image = pair.querySelector("img");
  const [width, height] = ["width", "height"].map((side) => Number(image.getAttribute(side)));
  pair.style.setProperty("--ratio", width / height);
  pair.style.setProperty("--natural", `${width}px`);
  const range = document.getElementById("range");
  range.addEventListener("input", () => place(range.value));
  pair.addEventListener("pointerdown", drag);
  compare.querySelectorAll("button[data-view]").forEach((button) => button.addEventListener("click", () => view(button.dataset.view)));
  document.getElementById("zoom").addEventListener("click", zoom);
  document.getElementById("both").addEventListener("click", downloadBoth);
  document.addEventListener("keydown", press);
  addEventListener("resize", showScale);
  view(recall("compare-view") ?? "slider");
  compare.dataset.ready = "yes";
}

function place(percent) {
  const range = document.getElementById("range");
  range.value = Math.min(100, Math.max(0, percent));
  pair.style.setProperty("--at", `${range.value}%`);
}

function drag(event) {
  if (compare.dataset.view !== "slider" || event.button !== 0 || event.target.closest("figcaption")) return;
  event.preventDefault();
  document.getElementById("range").focus({ preventScroll: true });
  const follow = ({ clientX }) => {
    const { left, width } = pair.getBoundingClientRect();
    place(((clientX - left) / width) * 100);
  };
  follow(event);
  const stop = new AbortController();
  addEventListener("pointermove", follow, stop);
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => stop.abort(), stop);
}

function view(name) {
  compare.dataset.view = name;
  compare.querySelectorAll("button[data-view]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.view === name)));
  remember("compare-view", name);
  showScale();
}

function swap() {
  const [first, second] = pair.querySelectorAll("figure");
  pair.insertBefore(second, first);
  announce(`Left: ${second.querySelector(".plate").textContent}`);
}

function zoom() {
  const large = pair.classList.toggle("large");
  document.getElementById("zoom").setAttribute("aria-pressed", String(large));
  showScale();
}

function showScale() {
  const image = pair.querySelector("img");
  const percent = Math.round((image.getBoundingClientRect().width / image.getAttribute("width")) * 100);
  const button = document.getElementById("zoom");
  button.querySelector(".words").textContent = pair.classList.contains("large") ? "Full size" : "Fit";
  button.querySelector(".count").textContent = `${percent} %`;
}

function downloadBoth() {
  // One after the other, or the browser takes the first for cancelled.
  pair.querySelectorAll("a[download]").forEach((link, i) => setTimeout(() => link.click(), 400 * i));
}

const KEYS = {
  ArrowLeft: () => step(-2),
  ArrowRight: () => step(2),
  " ": swap,
  z: zoom,
};

function step(by) {
  const range = document.getElementById("range");
  if (compare.dataset.view !== "slider") return;
  range.focus({ preventScroll: true });
  place(Number(range.value) + by);
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (recall("single-keys") === "off" && event.target.id !== "range") return;
  if (event.target.closest("a, button, summary") && event.key === " ") return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// The Generate page: the form sends to the API, jobs come in on top of the feed.
import { post } from "./api.js";
import { announce, icon } from "./controls.js";
import { showJobs } from "./feed.js";
import { startLoras } from "./loras.js";
import { startPictures } from "./pictures.js";
import { startPrompts } from "./prompts.js";
import { asCurl, asPython, requestOf } from "./request.js";
import { duration, showTimes, write } from "./times.js";
import { level, readUsage } from "./usage.js";
import { activeCount, onJobs, watch } from "./watch.js";

const FEED = 20;
const form = document.getElementById("generate");
const studio = document.getElementById("studio");
const prompt = document.getElementById("prompt");
const seed = document.getElementById("seed");
const submit = document.getElementById("submit");
const feed = document.getElementById("feed");
const api = document.querySelector(".api-card");
const code = document.getElementById("api-code");

// What the form says about itself ------------------------------------------------------------------

function refresh() {
  const request = requestOf(form);
  const size = document.getElementById("size-words");
  size.textContent = `${request.width} × ${request.height}`;
  const many = request.count > 1 ? `${request.count} pictures` : "1 picture";
  if (!submit.classList.contains("busy")) document.getElementById("submit-words").textContent = `Generate ${many}`;
  showCount();
  showLock();
  write(document.getElementById("prompt-hint"), `${request.steps} ${request.steps === 1 ? "step" : "steps"}, no negative prompt`);
  showSeconds(request);
  showCode(request);
}

// How long a picture takes on each engine, and all of them on the chosen one: learned from jobs before.
function showSeconds({ width, height, steps, count, engine }) {
  const time = document.getElementById("foot-time");
  write(time, "");
  for (const tile of form.querySelectorAll("[data-speed]")) {
    const { rate, each } = JSON.parse(tile.dataset.speed);
    const seconds = each[`${width}x${height}x${steps}`] ?? rate * width * height * steps;
    const known = Number.isFinite(seconds) && seconds > 0;
    write(tile.querySelector("[data-each]"), known ? `~${duration(seconds)} a picture` : "");
    if (!known || tile.dataset.engine !== engine) continue;
    const all = ["", "", " for both", " for all 3", " for all 4"][count] ?? "";
    write(time, `~${duration(seconds * count)}${all}`);
  }
}

function showCount() {
  const count = document.getElementById("prompt-count");
  const most = Number(count.dataset.most);
  const length = [...prompt.value].length;
  count.textContent = `${length.toLocaleString("en")} / ${most.toLocaleString("en")}`;
  count.classList.toggle("over", length > most);
}

function showLock() {
  const lock = document.getElementById("lock");
  const locked = seed.value.trim() !== "";
  lock.setAttribute("aria-pressed", String(locked));
  lock.querySelector("span").textContent = locked ? "Locked" : "Random";
  lock.title = locked ? "The same seed for each job. Click for a random one" : "A new seed for each job. Click to keep the last one";
}

function showCode(request) {
  const url = new URL(api.dataset.url, location.href).href;
  const python = api.querySelector("[data-language=python]").getAttribute("aria-pressed") === "true";
  code.replaceChildren(...painted(python ? asPython(url, request) : asCurl(url, request)));
}

// The code with its strings set off.
function painted(text) {
  const parts = text.split(/("(?:[^"\\\n]|\\.)*"|(?<=-d )'[^]*)/);
  return parts.map((part, i) => (i % 2 ? Object.assign(document.createElement("span"), { className: "s", textContent: part }) : part));
}

// Errors --------------------------------------------------------------------------------------------

function fieldOf(attr, request) {
  const [name, place, part] = (attr ?? "").split(".");
  if (name === "loras" && part === "weight") return `weight-${request.loras[Number(place)].slug}`;
  return name === "width" || name === "height" ? "size" : name;
}

function errorAt(name) {
  return document.querySelector(`[data-error="${CSS.escape(name)}"]`);
}

function inputOf(name) {
  if (name === "size") return form.elements.width;
  const found = form.elements[name];
  return found instanceof RadioNodeList ? found[0] : found;
}

function clearErrors() {
  for (const error of form.querySelectorAll("[data-error]")) error.hidden = true;
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  document.getElementById("form-error").hidden = true;
}

function showFieldErrors(errors, request) {
  const inputs = [];
  for (const { attr, detail } of errors) {
    const name = fieldOf(attr, request);
    const place = errorAt(name);
    if (!place) {
      showError(detail);
      continue;
    }
    if (name === "size") form.querySelector("[name=size][value=own]").checked = true;
    place.querySelector("span").textContent = detail;
    place.hidden = false;
    const input = inputOf(name);
    input?.setAttribute("aria-invalid", "true");
    if (input) inputs.push(input);
  }
  inputs[0]?.focus();
}

function showError(cause, remedy = "") {
  const box = document.getElementById("form-error");
  box.querySelector("b").textContent = cause;
  box.querySelector("span").textContent = remedy;
  box.hidden = false;
}

function explain({ status, data }, request) {
  if (status === 400 && data?.errors) return showFieldErrors(data.errors, request);
  if (status === 0) return showError("No answer from the server.", "Your prompt is kept. Check the connection and send it again; it is drawn once.");
  if (status === 401 || status === 403) {
    return showError("You are logged out.", "Log in again in another tab, then send this once more; your prompt is kept.");
  }
  if (status === 429 && data?.errors) {
    const [cause, remedy = ""] = data.errors[0].detail.split(/(?<=\.) (.*)/s);
    return showError(cause, `${remedy} Your prompt is kept.`.trim());
  }
  return showError(data?.errors?.[0]?.detail ?? `The server answered ${status}.`, "Nothing was sent to draw. Your prompt is kept.");
}

// Sending -------------------------------------------------------------------------------------------

function busy(on) {
  submit.classList.toggle("busy", on);
  submit.setAttribute("aria-disabled", String(on));
  submit.querySelector(".icon")?.remove();
  if (!on) return refresh();
  submit.prepend(icon("loader-2"));
  document.getElementById("submit-words").textContent = "Sending";
}

// A request without an answer may have made its job all the same: sent again unchanged it has the same key,
// and the first job is the answer.
let unanswered = null;

// What crypto.randomUUID() would do is there behind TLS only.
const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

async function postOnce(request) {
  const text = JSON.stringify(request);
  const sent = unanswered?.text === text ? unanswered : { text, key: newKey() };
  const answer = await post(form.dataset.api, request, { "Idempotency-Key": sent.key });
  unanswered = answer.status === 0 || answer.status >= 500 ? sent : null;
  return answer;
}

async function send() {
  if (submit.getAttribute("aria-disabled") === "true") return;
  clearErrors();
  const request = requestOf(form);
  busy(true);
  const answer = await postOnce(request);
  busy(false);
  showQuota();
  if (!answer.ok) return explain(answer, request);
  announce("Sent");
  watch([answer.data.id]);
  document.dispatchEvent(new Event("jobs-sent"));
  if (matchMedia("(max-width: 720px)").matches) showView("results");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  send();
});

// The feed ------------------------------------------------------------------------------------------

// Puts a job where it belongs: ids grow with time. What is older than the whole feed stays away.
function addJob(element) {
  const older = [...feed.children].find((job) => job.dataset.job < element.dataset.job);
  if (older) older.before(element);
  else if (feed.children.length < FEED) feed.append(element);
  else return;
  document.getElementById("feed-empty")?.remove();
  feed.closest(".feed-scroll").scrollTo({ top: 0 });
}

function showFlight() {
  const count = activeCount();
  const badge = document.getElementById("results-count");
  badge.textContent = count;
  badge.hidden = count === 0;
  const line = document.getElementById("foot-flight");
  const state = feed.querySelector("[data-active=yes] .state.running") ?? feed.querySelector("[data-active=yes] .state");
  line.hidden = count === 0 || !state;
  if (!line.hidden) {
    const meter = state.closest(".job").querySelector(".tile.drawing .meter")?.cloneNode(true);
    line.replaceChildren(...(meter ? [meter] : []), `${state.textContent.trim()}${count > 1 ? ` · ${count} in flight` : ""}`);
  }
}

function showEngine({ name, state, words }) {
  const tile = form.querySelector(`[data-engine="${CSS.escape(name)}"]`);
  tile.className = `choice engine ${state}`;
  write(tile.querySelector(".engine-state"), words);
}

// Of the limits of pictures a day that one which is reached first; there is no line where none holds.
async function showQuota() {
  const line = document.getElementById("quota");
  const usage = line && (await readUsage());
  const today = (usage ?? []).filter(({ name }) => name === "images_a_day");
  if (today.length === 0) return;
  const { taken, limit, group, resets_at } = today.sort((a, b) => a.limit - a.taken - (b.limit - b.taken))[0];
  write(line.querySelector(".quota-name"), group ? `Today, ${group}` : "Today");
  write(line.querySelector(".quota-words"), `${taken.toLocaleString("en")} of ${limit.toLocaleString("en")}`);
  const bar = line.querySelector("progress");
  bar.max = limit;
  bar.value = taken;
  bar.className = `quota-bar ${level(taken, limit)}`;
  line.querySelector(".quota-end").hidden = taken < limit;
  line.querySelector("time").dateTime = resets_at;
  showTimes(line);
}

// The newest pictures, once they are all there.
function showRecent({ id, state }) {
  const recent = document.querySelector(".recent ul");
  if (!recent || state !== "succeeded") return;
  for (const link of document.querySelectorAll(`#job-${id} .tile.picture a`)) {
    if (recent.querySelector(`[href="${link.getAttribute("href")}"]`)) continue;
    const item = document.createElement("li");
    item.append(link.cloneNode(true));
    item.querySelector(".plate")?.remove();
    item.querySelector("img").className = "";
    recent.prepend(item);
    if (recent.children.length > 12) recent.lastElementChild.remove();
  }
}

onJobs((jobs, engines) => {
  showJobs(jobs, addJob);
  engines.forEach(showEngine);
  jobs.forEach(showRecent);
  showFlight();
  if (jobs.some(({ state }) => state !== "queued" && state !== "running")) showQuota();
});

function showView(view) {
  studio.dataset.view = view;
  for (const button of studio.querySelectorAll("[data-show-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.showView === view));
  }
  scrollTo(0, 0);
}

// Controls ------------------------------------------------------------------------------------------

// Fills the form as it is filled in a page that the server made.
function fillFrom(page) {
  for (const { name, type, value, checked } of page.getElementById("generate").elements) {
    const choice = type === "radio" && form.querySelector(`[name="${name}"][value="${CSS.escape(value)}"]`);
    if (choice) choice.checked = checked;
    else if (["prompt", "width", "height", "steps", "seed"].includes(name)) form.elements[name].value = value;
  }
  chooseLoras([...page.querySelectorAll("#lora-boxes > li")].filter((box) => box.querySelector(".lora-tick").checked));
  clearErrors();
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
  showView("setup");
}

function newSeed() {
  seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
  refresh();
}

document.getElementById("dice").addEventListener("click", newSeed);
document.getElementById("lock").addEventListener("click", () => {
  const last = feed.querySelector("[data-seed]")?.dataset.seed;
  if (seed.value) seed.value = "";
  else if (last) seed.value = last;
  else newSeed();
  refresh();
});
studio.addEventListener("click", (event) => {
  const view = event.target.closest("[data-show-view]");
  if (view) showView(view.dataset.showView);
  const language = event.target.closest("[data-language]");
  if (language) {
    api.querySelectorAll("[data-language]").forEach((button) => button.setAttribute("aria-pressed", String(button === language)));
    refresh();
  }
  const example = event.target.closest("[data-example]");
  if (example && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    prompt.value = example.dataset.example;
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
    showView("setup");
    prompt.focus();
  }
});
form.addEventListener("input", refresh);
form.addEventListener("change", refresh);
const chooseLoras = startLoras(prompt, refresh);
startPictures(fillFrom, showError);
startPrompts(prompt);
refresh();
showFlight();
// From here on keys and buttons act; a test that is faster than any person waits for it.
form.dataset.ready = "yes";
form.querySelector("[aria-invalid]")?.focus();
// On a phone the keyboard would cover half of the page.
if (matchMedia("(max-width: 720px)").matches && document.activeElement === prompt) prompt.blur();

// Asks the server how the active jobs are, as long as there are any and somebody looks.
import { Fresh, LoggedOut } from "./fresh.js";

const RUNNING_MS = 300;
const QUEUED_MS = 1500;
// A job just sent may start at once.
const FRESH_MS = 5000;
const RETRY_MS = 5000;

const fresh = new Fresh();
const watched = new Set();
const listeners = [];
let timer = 0;
let underWay = false;
let again = false;
let freshUntil = 0;
let running = false;

// ``listener`` gets the jobs that the server answered with, and the state of each engine.
export function onJobs(listener) {
  listeners.push(listener);
}

export function watch(ids) {
  const before = watched.size;
  ids.filter(Boolean).forEach((id) => watched.add(id));
  if (watched.size === before) return;
  freshUntil = Date.now() + FRESH_MS;
  lookNow();
}

export function activeCount() {
  return watched.size;
}

export function lookNow() {
  clearTimeout(timer);
  if (underWay) again = true;
  else timer = setTimeout(look, 0);
}

async function look() {
  if (underWay || document.hidden || watched.size === 0) return;
  underWay = true;
  const ok = await ask();
  underWay = false;
  clearTimeout(timer);
  if (watched.size > 0) timer = setTimeout(look, again ? 0 : ok ? pace() : RETRY_MS);
  again = false;
}

function pace() {
  return running || Date.now() < freshUntil ? RUNNING_MS : QUEUED_MS;
}

async function ask() {
  const ids = [...watched].slice(-100);
  const url = `${document.body.dataset.statusUrl}?as=${document.body.dataset.jobsAs ?? ""}&ids=${ids.join(",")}`;
  try {
    const answer = await fresh.get(url);
    if (answer) take(await answer.json(), ids);
    return true;
  } catch (error) {
    if (error instanceof LoggedOut) watched.clear();
    return false;
  }
}

function take({ jobs, engines }, ids) {
  const active = jobs.filter((job) => job.state === "queued" || job.state === "running");
  ids.forEach((id) => watched.delete(id));
  active.forEach((job) => watched.add(job.id));
  running = active.some((job) => job.state === "running");
  listeners.forEach((listener) => listener(jobs, engines));
}

document.addEventListener("visibilitychange", () => document.hidden || lookNow());

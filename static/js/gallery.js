// The gallery and the trash: more pictures on demand, new ones by themselves, and the keys.
import { loadMore } from "./more.js";
import { act, choose, chooseTo, chosen, clear, startSelection, tiles, toggle } from "./selection.js";
import { addKeys } from "./shell.js";
import { onJobs } from "./watch.js";

const form = document.getElementById("selection");
const gallery = document.getElementById("gallery");
const newButton = document.getElementById("new-pictures");
const isFirst = !new URLSearchParams(location.search).has("before");
const idOf = (tile) => tile.querySelector(".ring").value;
let pages = 1;

// More pictures -------------------------------------------------------------------------------------

// Days of another page, those of one day under one heading. Returns the first new picture.
function add(page) {
  const first = page.querySelector("#gallery li");
  for (const day of page.querySelectorAll("#gallery .day")) {
    const last = gallery.lastElementChild;
    if (last.dataset.day === day.dataset.day) last.querySelector("ul").append(...day.querySelectorAll("li"));
    else gallery.append(document.adoptNode(day));
  }
  pages += 1;
  remember();
  added();
  return first;
}

function added() {
  dispatchEvent(new Event("pictures-added"));
  tiles().forEach((tile) => tile === current || reach(tile, false));
}

// New pictures --------------------------------------------------------------------------------------

async function firstPage() {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok || answer.redirected) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// Counts as they are now, and the pictures that came since.
async function refresh() {
  const page = isFirst ? await firstPage() : null;
  const total = page?.getElementById("total");
  if (!total) return;
  document.getElementById("total").textContent = total.textContent;
  for (const day of page.querySelectorAll("#gallery .day")) {
    const here = gallery.querySelector(`[data-day="${day.dataset.day}"] .meta`);
    if (here) here.textContent = day.querySelector(".meta").textContent;
  }
  offer(page);
}

function offer(page) {
  const known = new Set(tiles().map(idOf));
  const all = [...page.querySelectorAll("#gallery li")];
  const end = all.findIndex((tile) => known.has(idOf(tile)));
  // All of a page is new: what lies between is not known, so the page is loaded anew.
  const fresh = end < 0 ? [] : all.slice(0, end);
  newButton.parentElement.hidden = !all.length || (end !== -1 && !fresh.length);
  newButton.textContent = end < 0 ? "Show the newest" : `${fresh.length} new`;
  newButton.onclick = () => (end < 0 ? location.assign(location.pathname + location.search) : insert(fresh, true));
  if (fresh.length && scrollY < 200 && !chosen().length) insert(fresh, false);
}

function insert(fresh, asked) {
  for (const tile of fresh.toReversed()) {
    const day = tile.closest(".day").dataset.day;
    let here = gallery.querySelector(`[data-day="${day}"]`);
    if (!here) {
      here = document.importNode(tile.closest(".day"), true);
      here.querySelector("ul").replaceChildren();
      gallery.prepend(here);
    }
    here.hidden = false;
    here.querySelector("ul").prepend(document.importNode(tile, true));
  }
  newButton.parentElement.hidden = true;
  added();
  if (!asked) return;
  scrollTo({ top: 0, behavior: "smooth" });
  tiles()[0].querySelector("a").focus({ preventScroll: true });
}

let soon = 0;
function refreshSoon() {
  clearTimeout(soon);
  soon = setTimeout(refresh, 400);
}

function watchJobs() {
  const seen = new Map();
  onJobs((jobs) => {
    for (const { id, state, picture } of jobs) {
      const now = `${state} ${picture}`;
      if (seen.has(id) && seen.get(id) !== now && (picture > 0 || state === "succeeded")) refreshSoon();
      seen.set(id, now);
    }
  });
  document.addEventListener("visibilitychange", () => document.hidden || refreshSoon());
}

// The way back --------------------------------------------------------------------------------------

function remember() {
  const tile = document.activeElement.closest?.("#gallery li");
  history.replaceState({ pages, y: scrollY, at: tile ? idOf(tile) : null }, "");
}

async function comeBack(next) {
  const { pages: wanted = 1, y = 0, at = null } = history.state ?? {};
  if (wanted > 1) {
    history.scrollRestoration = "manual";
    while (pages < wanted && (await next()));
    scrollTo(0, y);
  }
  const tile = at && tiles().find((each) => idOf(each) === at);
  if (tile) tile.querySelector("a").focus({ preventScroll: true });
  let settled = 0;
  addEventListener("scroll", () => {
    clearTimeout(settled);
    settled = setTimeout(remember, 200);
  }, { passive: true });
  gallery.addEventListener("click", remember, { capture: true });
}

// Keys ----------------------------------------------------------------------------------------------

// One picture is reached by Tab, the others from it by arrows.
let current = null;

function reach(tile, on) {
  for (const part of tile.querySelectorAll("a, input, button")) part.tabIndex = on ? 0 : -1;
}

function startFocus() {
  gallery.addEventListener("focusin", (event) => {
    const tile = event.target.closest("li");
    if (!tile || tile === current) return;
    if (current) reach(current, false);
    current = tile;
    reach(tile, true);
  });
  current = tiles()[0];
  added();
}

const focused = () => document.activeElement.closest?.("#gallery li");

function go(tile) {
  if (!tile) return;
  tile.querySelector("a").focus({ preventScroll: true });
  tile.scrollIntoView({ block: "nearest" });
}

function aside(steps) {
  const all = tiles();
  const here = all.indexOf(focused());
  go(here < 0 ? firstInView() : all[here + steps]);
}

function firstInView() {
  return tiles().find((tile) => tile.getBoundingClientRect().bottom > 120);
}

// The picture above or below whose middle is nearest.
function across(direction) {
  const from = focused()?.getBoundingClientRect();
  if (!from) return go(firstInView());
  const middle = from.left + from.width / 2;
  const others = tiles()
    .map((tile) => [tile, tile.getBoundingClientRect()])
    .filter(([, box]) => box.width && direction * (box.top - from.top) > 4);
  if (!others.length) return;
  const row = Math.min(...others.map(([, box]) => direction * box.top)) * direction;
  const away = ([, box]) => Math.abs(box.left + box.width / 2 - middle);
  const inRow = others.filter(([, box]) => Math.abs(box.top - row) < 4);
  go(inRow.sort((a, b) => away(a) - away(b))[0][0]);
}

const held = (act) => Object.assign(act, { repeats: true });
const button = (verb) => form.querySelector(`.selection-bar [data-act=${verb}]`);

function favourite() {
  if (chosen().length) act(form.querySelector(".selection-bar [data-act$=favourite]"));
  else focused()?.querySelector(".heart")?.click();
}

function away() {
  const pictures = chosen().length ? chosen() : [focused()].filter(Boolean);
  if (button("trash")) return act(button("trash"), pictures);
  if (!chosen().length) choose(pictures);
  form.querySelector(".selection-bar [data-ask]").click();
}

function escape(event) {
  if (event.target.closest("details[open]")) return;
  if (chosen().length) clear();
}

function startKeys() {
  addKeys({
    ArrowLeft: held(() => aside(-1)),
    ArrowRight: held(() => aside(1)),
    ArrowUp: held(() => across(-1)),
    ArrowDown: held(() => across(1)),
    x: () => focused() && toggle(focused()),
    X: () => focused() && chooseTo(focused()),
    ".": favourite,
    Delete: away,
    Backspace: away,
    Escape: escape,
    "Ctrl+a": () => choose(tiles()),
  });
}

addKeys({ "/": () => document.getElementById("q")?.select() });
if (gallery) {
  startSelection();
  startFocus();
  startKeys();
  comeBack(loadMore(add, { auto: true }));
  addEventListener("pictures-changed", refreshSoon);
  if (isFirst && location.pathname === document.body.dataset.galleryUrl) watchJobs();
  form.dataset.ready = "yes";
}

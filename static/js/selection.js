// Pictures chosen in the gallery, and what is done with them without leaving the page.
import { announce, toast } from "./controls.js";

const form = document.getElementById("selection");
const dialog = document.getElementById("ask");
const problem = document.getElementById("selection-error");
// These take pictures out of the list that is shown.
const LEAVE = ["trash", "restore", "uncollect"];
let anchor = null;

export const tiles = () => [...form.querySelectorAll("#gallery li")];
export const chosen = () => tiles().filter((tile) => ringOf(tile).checked);
const ringOf = (tile) => tile.querySelector(".ring");
const heartOf = (tile) => tile.querySelector(".heart");
const idOf = (tile) => ringOf(tile).value;
const isFavourite = (tile) => heartOf(tile)?.getAttribute("aria-pressed") === "true";

// Choosing ------------------------------------------------------------------------------------------

function show() {
  const now = chosen();
  const bytes = now.reduce((sum, tile) => sum + Number(tile.dataset.bytes), 0);
  document.getElementById("selected").textContent = `${now.length} selected`;
  const size = document.getElementById("selected-bytes");
  if (size) size.textContent = inWords(bytes);
  const favourite = form.querySelector(".selection-bar [data-act$=favourite]");
  if (favourite) aim(favourite, now.length > 0 && now.every(isFavourite));
  problem.hidden = true;
}

function inWords(bytes) {
  if (bytes < 1e5) return `${Math.ceil(bytes / 1e3)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

function aim(button, off) {
  button.dataset.act = off ? "unfavourite" : "favourite";
  button.formAction = form.dataset[button.dataset.act];
  const words = button.querySelector("span");
  if (words) words.textContent = button.title = off ? "No favourite" : "Favourite";
}

export function choose(wanted, on = true) {
  const most = Number(form.dataset.most);
  let left = most - chosen().length;
  for (const tile of wanted) {
    if (ringOf(tile).checked === on) continue;
    if (on && left-- <= 0) break;
    ringOf(tile).checked = on;
  }
  show();
  const count = chosen().length;
  announce(count === most ? `${count} selected, the most at once` : `${count} selected`);
}

export function toggle(tile) {
  anchor = tile;
  choose([tile], !ringOf(tile).checked);
}

// From the picture that was chosen last to this one.
export function chooseTo(tile) {
  const all = tiles();
  const [from, to] = [all.indexOf(anchor), all.indexOf(tile)].sort((a, b) => a - b);
  choose(from < 0 ? [tile] : all.slice(from, to + 1));
  anchor = tile;
}

export function clear() {
  choose(chosen(), false);
  anchor = null;
}

function clicked(event) {
  const tile = event.target.closest("#gallery li");
  if (!tile) return;
  if (event.target.closest(".ring")) {
    if (event.shiftKey && anchor) return chooseTo(tile);
    anchor = tile;
    return choose([], true);
  }
  // A picture opens; while some are chosen a click chooses, and Enter opens still.
  if (!event.target.closest(".shot") || event.detail === 0 || event.ctrlKey || event.metaKey || !chosen().length) return;
  event.preventDefault();
  if (event.shiftKey) chooseTo(tile);
  else toggle(tile);
}

// Acting --------------------------------------------------------------------------------------------

async function send(url, fields) {
  try {
    const answer = await fetch(url, { method: "POST", body: fields, headers: { Accept: "application/json" } });
    if (answer.redirected) return { error: "You are logged out. Load the page again and log in." };
    if (answer.ok || answer.status === 400) return await answer.json();
    return { error: answer.status === 404 ? "One of these pictures is gone. Load the page again." : `The server answered ${answer.status}.` };
  } catch {
    return { error: "No answer from the server. Nothing was changed; try again." };
  }
}

function fieldsOf(pictures, button = null) {
  // A heart belongs to the form of all pages' buttons.
  const fields = new FormData(form, button?.form === form ? button : null);
  fields.delete("image");
  pictures.forEach((tile) => fields.append("image", idOf(tile)));
  return fields;
}

function refuse(sentence) {
  problem.querySelector("span").textContent = sentence;
  problem.hidden = false;
  // The bar is not shown while nothing is chosen.
  if (!chosen().length) toast(sentence, { picture: "alert-triangle" });
}

// Do what ``button`` says with the pictures, or with those that are chosen.
export async function act(button, pictures = chosen()) {
  if (!button || !pictures.length || button.getAttribute("aria-disabled") === "true") return;
  const verb = button.dataset.act;
  button.setAttribute("aria-disabled", "true");
  const { said, undo, error } = await send(button.formAction, fieldsOf(pictures, button));
  button.removeAttribute("aria-disabled");
  if (error) return refuse(error);
  button.closest("details")?.removeAttribute("open");
  if (verb.endsWith("favourite")) pictures.forEach((tile) => heart(tile, verb === "favourite"));
  const back = LEAVE.includes(verb) ? takeOut(pictures) : null;
  const action = undo && { label: "Undo", act: async () => putBack(back, await send(undo, fieldsOf(pictures))) };
  toast(said, { action, picture: verb === "trash" ? "trash" : "circle-check" });
  show();
  dispatchEvent(new CustomEvent("pictures-changed", { detail: { verb } }));
}

function heart(tile, on) {
  const button = heartOf(tile);
  button.setAttribute("aria-pressed", String(on));
  button.formAction = form.dataset[on ? "unfavourite" : "favourite"];
}

// Takes tiles off the page; returns how to put them back where they were.
function takeOut(pictures) {
  const all = tiles();
  const after = all.slice(all.lastIndexOf(pictures.at(-1)) + 1)[0] ?? all.findLast((tile) => !pictures.includes(tile));
  const places = pictures.map((tile) => [tile, tile.parentElement, tile.nextElementSibling]);
  const hadFocus = pictures.some((tile) => tile.contains(document.activeElement)) || document.activeElement.closest(".selection-bar");
  pictures.forEach((tile) => {
    ringOf(tile).checked = false;
    tile.remove();
  });
  laidAnew();
  if (hadFocus) (after?.querySelector("a") ?? document.getElementById("main")).focus();
  return places;
}

function putBack(places, { said, error }) {
  if (error) return refuse(error);
  // The last first: each stands before one that is back already.
  places.toReversed().forEach(([tile, list, next]) => list.insertBefore(tile, next));
  laidAnew();
  places[0][0].querySelector("a").focus();
  announce(said);
  dispatchEvent(new CustomEvent("pictures-changed", { detail: { verb: "restore" } }));
}

function laidAnew() {
  for (const day of form.querySelectorAll(".day")) day.hidden = !day.querySelector("li");
  dispatchEvent(new Event("pictures-added"));
}

// Asking --------------------------------------------------------------------------------------------

// What cannot be undone has a page that asks; here it asks in a dialog.
async function ask(address, options) {
  const answer = await fetch(address, options).catch(() => null);
  if (!answer?.ok) return refuse("No answer from the server. Nothing was changed; try again.");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const asked = page.querySelector(".confirm");
  if (!asked) return location.reload();
  dialog.replaceChildren(document.adoptNode(asked));
  dialog.setAttribute("aria-label", dialog.querySelector("h2").textContent);
  dialog.showModal();
  dialog.querySelector("[data-close]").focus();
}

export function startSelection() {
  form.addEventListener("click", clicked);
  form.addEventListener("change", show);
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    clear();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-ask]");
    const heartButton = event.target.closest(".heart");
    if (link || heartButton || event.target.closest("[data-close]")) event.preventDefault();
    if (link) ask(link.href);
    if (event.target.closest("#ask [data-close]")) dialog.close();
    if (heartButton) {
      const tile = heartButton.closest("li");
      heartButton.dataset.act = isFavourite(tile) ? "unfavourite" : "favourite";
      act(heartButton, [tile]);
    }
  });
  form.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!("act" in button.dataset) && !("ask" in button.dataset)) return;
    event.preventDefault();
    if ("act" in button.dataset) act(button);
    else ask(button.formAction, { method: "POST", body: fieldsOf(chosen(), button) });
  });
  form.querySelector("[name=name]")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    act(event.target.closest(".menu-new").querySelector("button"));
  });
  show();
}

// Small controls of every page: theme, showing a password, copying, menus, toasts.
import { remember } from "./memory.js";

export function icon(name, size = 16) {
  const sprite = document.querySelector("svg.icon use").getAttribute("href").split("#")[0];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("width", size);
  svg.setAttribute("height", size);
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  svg.firstChild.setAttribute("href", `${sprite}#${name}`);
  return svg;
}

function switchTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "light" ? "dark" : "light";
  remember("theme", root.dataset.theme);
  nameThemeSwitch();
}

// What was remembered last: theme.js looks it up.
export function applyTheme() {
  document.dispatchEvent(new Event("theme-chosen"));
  nameThemeSwitch();
}

function nameThemeSwitch() {
  const other = document.documentElement.dataset.theme === "light" ? "Dark" : "Light";
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.setAttribute("aria-label", `${other} theme`);
    button.title = `${other} theme`;
  }
}

function showPassword(button) {
  const input = document.getElementById(button.dataset.show);
  const shown = input.type === "password";
  input.type = shown ? "text" : "password";
  button.setAttribute("aria-pressed", String(shown));
}

async function copy(button) {
  const from = button.dataset.copyFrom;
  const text = from ? document.getElementById(from).textContent : button.dataset.copy;
  const done = await written(text);
  const words = button.querySelector("span");
  const before = button.querySelector(".icon");
  const after = icon(done ? "check" : "x", before.getAttribute("width"));
  before.replaceWith(after);
  const old = words?.textContent;
  if (words) words.textContent = done ? "Copied" : "Select and copy by hand";
  announce(done ? "Copied" : "The browser did not allow copying");
  setTimeout(() => {
    after.replaceWith(before);
    if (words) words.textContent = old;
  }, 1500);
}

// Browsers offer the clipboard only over https and on localhost; elsewhere the old way works.
async function written(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

export function announce(text) {
  const live = document.getElementById("live");
  if (live) live.textContent = text;
}

function retire(toast) {
  const canUndo = toast.querySelector("button");
  setTimeout(() => {
    if (toast.matches(":hover, :focus-within")) return retire(toast);
    toast.classList.add("leaving");
    setTimeout(() => toast.remove(), 200);
  }, canUndo ? 10_000 : 6000);
}

// One line at the bottom, with one button at most: ``action`` is {label, act}.
export function toast(text, { action = null, picture = "circle-check" } = {}) {
  const shown = Object.assign(document.createElement("div"), { className: "toast" });
  shown.append(icon(picture), Object.assign(document.createElement("span"), { textContent: text }));
  if (action) {
    const button = Object.assign(document.createElement("button"), { className: "button ghost small", type: "button", textContent: action.label });
    button.addEventListener("click", () => {
      shown.remove();
      action.act();
    });
    shown.append(button);
  }
  document.getElementById("toasts").append(shown);
  announce(text);
  retire(shown);
  return shown;
}

function closeMenus(except) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu !== except) menu.open = false;
  }
}

export function startControls() {
  nameThemeSwitch();
  document.querySelectorAll(".toast").forEach((shown) => retire(shown));
  document.addEventListener("click", (event) => {
    closeMenus(event.target.closest("details.menu"));
    const button = event.target.closest("button");
    if (!button) return;
    if ("themeSwitch" in button.dataset) switchTheme();
    if (button.dataset.show) showPassword(button);
    if (button.dataset.copy || button.dataset.copyFrom) copy(button);
    if (button.dataset.open) document.getElementById(button.dataset.open).showModal();
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}

// Keys and display: the theme, and whether single keys act. Both are this browser's.
import { applyTheme } from "./controls.js";
import { recall, remember } from "./memory.js";

const themes = document.getElementById("themes");
const single = document.getElementById("single-keys");
const here = document.getElementById("single-keys-here");

function showTheme() {
  themes.querySelector(`[value=${recall("theme") ?? "dark"}]`).checked = true;
}

themes.addEventListener("change", ({ target }) => {
  remember("theme", target.value);
  applyTheme();
});
document.addEventListener("click", (event) => event.target.closest("[data-theme-switch]") && showTheme());
showTheme();

// The dialog of keys has the same switch, and the script that heeds it.
here.checked = single.checked;
here.addEventListener("change", () => {
  single.checked = here.checked;
  single.dispatchEvent(new Event("change"));
});
single.addEventListener("change", () => (here.checked = single.checked));

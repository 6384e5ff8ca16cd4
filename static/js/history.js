// The history: filters that act at once, rows kept up to date, more of them on demand.
import "./feed.js";
import { loadMore } from "./more.js";
import { showTimes, write } from "./times.js";
import { watch } from "./watch.js";

const find = document.getElementById("find");
const TYPING_MS = 400;
let typing = 0;

loadMore((page) => {
  const rows = [...page.querySelectorAll("tbody.row")];
  document.getElementById("jobs").append(...rows);
  const shown = document.getElementById("shown");
  if (shown) write(shown, String(document.querySelectorAll("tbody.row").length));
  showTimes();
  watch(rows.filter((row) => row.dataset.active === "yes").map((row) => row.dataset.job));
  return rows[0];
});

// The page of the filters takes the place of this one; only what is typed in stays as it is.
async function search() {
  const asked = new URLSearchParams([...new FormData(find)].filter(([, value]) => value));
  const address = `${location.pathname}?${asked}`;
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok || answer.redirected) return location.assign(address);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of ["#found", ".history-head .total", ".history-find .segmented", ".history-find a.button"]) {
    document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
  }
  history.replaceState(null, "", address);
  showTimes();
  watch([...document.querySelectorAll("tbody.row[data-active=yes]")].map((row) => row.dataset.job));
}

find.addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(search, event.target.name === "q" ? TYPING_MS : 0);
});
find.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  search();
});
find.dataset.ready = "yes";

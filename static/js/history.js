// The history: rows kept up to date, more of them on demand.
import "./feed.js";
import { loadMore } from "./more.js";
import { showTimes } from "./times.js";
import { watch } from "./watch.js";

loadMore((page) => {
  const rows = [...page.querySelectorAll("tbody.row")];
  document.getElementById("jobs").append(...rows);
  showTimes();
  watch(rows.filter((row) => row.dataset.active === "yes").map((row) => row.dataset.job));
  return rows[0];
});

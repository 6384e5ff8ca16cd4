// One picture: as large as the stage allows, its favourite, its final as it is drawn, and its links.
import { postForm } from "./api.js";
import { announce } from "./controls.js";
import { asCurl } from "./request.js";
import "./share.js";
import { onJobs } from "./watch.js";

const here = document.querySelector(".strip [aria-current]");
const row = here?.closest("ul");
if (row) row.scrollLeft = here.offsetLeft - row.offsetLeft - (row.clientWidth - here.clientWidth) / 2;

const curl = document.getElementById("curl");
curl.dataset.copy = asCurl(new URL(curl.dataset.url, location.href).href, JSON.parse(curl.dataset.request));

// Favourite, without leaving the page --------------------------------------------------------------

const favourite = document.getElementById("favourite");
favourite?.addEventListener("click", async (event) => {
  event.preventDefault();
  const on = favourite.getAttribute("aria-pressed") !== "true";
  show(on);
  const answer = await postForm(on ? favourite.dataset.on : favourite.dataset.off, { image: favourite.value }, "application/json");
  if (!answer?.ok) show(!on);
  announce(answer?.ok ? (on ? "Favourite" : "No favourite any more") : "Not saved. Try again");
});

function show(on) {
  favourite.setAttribute("aria-pressed", String(on));
}

// Its final ----------------------------------------------------------------------------------------

onJobs((jobs) => {
  const waited = document.getElementById("family")?.dataset.job;
  const job = jobs.find(({ id }) => id === waited);
  if (!job) return;
  if (job.state === "queued" || job.state === "running") showSteps(job);
  else showFamily();
});

function showSteps({ stage, step }) {
  document.querySelectorAll(".family-job .meter i").forEach((part, i) => {
    part.className = i < step ? "full" : stage === "drawing" && i === step ? "half" : "";
  });
}

async function showFamily() {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["family", "finish"]) {
    const now = page.getElementById(id);
    const old = document.getElementById(id);
    if (now) old.replaceWith(now);
    else old.remove();
  }
  announce("The final is there");
}

// The page of one job: its times and what can be done with it come when it is over.
import "./feed.js";
import { onJobs } from "./watch.js";

const facts = () => document.getElementById("facts");

onJobs(async (jobs) => {
  const isOver = jobs.some(({ id, state }) => location.pathname.includes(id) && !["queued", "running"].includes(state));
  if (!isOver || facts().dataset.over === "yes") return;
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  facts().replaceWith(document.adoptNode(page.getElementById("facts")));
});

// What was used of the limits that hold for the user; read only when it is shown.
import { duration } from "./times.js";

const account = document.getElementById("account");
const count = (number) => Math.round(number).toLocaleString("en");

const WORDS = {
  images_a_day: ["Pictures today", (taken, limit) => `${count(taken)} of ${count(limit)}`],
  gpu_seconds_a_day: ["GPU time today", (taken, limit) => `${duration(taken)} of ${duration(limit)}`],
  pending_jobs: ["Jobs in flight", (taken, limit) => `${count(taken)} of ${count(limit)}`],
  storage_mb: ["Storage", (taken, limit) => (limit < 1000 ? `${count(taken)} of ${count(limit)} MB` : `${(taken / 1000).toFixed(1)} of ${limit / 1000} GB`)],
};

// Grey until 80 %, then warn, then full.
export function level(taken, limit) {
  if (taken >= limit) return "full";
  return taken >= 0.8 * limit ? "warn" : "";
}

// Each limit as {name, group, taken, limit, resets_at}; null when there was no answer.
export async function readUsage() {
  try {
    const answer = await fetch(account.dataset.usage);
    if (!answer.ok) return null;
    const { usage } = await answer.json();
    return usage.filter(({ limit }) => limit !== null).map((one) => ({ ...one, taken: one.used + one.reserved }));
  } catch {
    return null;
  }
}

function line({ name, group, taken, limit }) {
  const [label, words] = WORDS[name];
  const row = document.createElement("div");
  row.append(
    Object.assign(document.createElement("dt"), { textContent: group ? `${label}, ${group}` : label }),
    Object.assign(document.createElement("dd"), { textContent: words(taken, limit), className: level(taken, limit) }),
  );
  return row;
}

export function startUsage() {
  const list = document.getElementById("usage");
  account.addEventListener("toggle", async () => {
    if (!account.open) return;
    const usage = (await readUsage()) ?? [];
    list.replaceChildren(...usage.map(line));
    list.hidden = usage.length === 0;
  });
}

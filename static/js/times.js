// Times in the reader's own time zone: "just now", "3 min ago", then the hour, then the day.

const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const year = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

function words(then, full) {
  const now = new Date();
  const minutes = Math.floor((now - then) / 60_000);
  if (full) return `${year.format(then)}, ${hour.format(then)}`;
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (then.toDateString() === now.toDateString()) return hour.format(then);
  return then.getFullYear() === now.getFullYear() ? `${day.format(then)}, ${hour.format(then)}` : year.format(then);
}

export function showTimes(root = document) {
  for (const time of root.querySelectorAll("time[data-time]")) {
    const text = words(new Date(time.dateTime), time.dataset.time === "full");
    if (time.textContent !== text) time.textContent = text;
  }
}

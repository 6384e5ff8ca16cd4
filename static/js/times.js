// Times in the reader's own time zone: "just now", "3 min ago", then the hour, then the day.

const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const year = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

function words(then, how) {
  const now = new Date();
  const minutes = Math.floor((now - then) / 60_000);
  if (how === "hour") return hour.format(then);
  if (how === "full") return `${year.format(then)}, ${hour.format(then)}`;
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (then.toDateString() === now.toDateString()) return hour.format(then);
  return then.getFullYear() === now.getFullYear() ? `${day.format(then)}, ${hour.format(then)}` : year.format(then);
}

// 0.4 s, 12 s, 10 min, 2 min 5 s, 1 h 3 min.
export function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 1) return `${whole} s`;
  const [many, large, rest, small] = minutes < 60 ? [minutes, "min", whole % 60, "s"] : [Math.floor(minutes / 60), "h", minutes % 60, "min"];
  return rest ? `${many} ${large} ${rest} ${small}` : `${many} ${large}`;
}

// How long ago in one unit: 12 s, 4 min, 3 h, 9 days.
function ago(then) {
  const seconds = Math.max(0, Math.floor((Date.now() - then) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 48 * 3600 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} days`;
}

export function showTimes(root = document) {
  for (const time of root.querySelectorAll("time[data-time]")) {
    write(time, words(new Date(time.dateTime), time.dataset.time));
  }
  for (const time of root.querySelectorAll("time[data-since]")) write(time, `for ${ago(new Date(time.dateTime))}`);
}

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

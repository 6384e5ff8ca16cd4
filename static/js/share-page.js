// What people without an account see: more pictures on demand, arrows between them.
import { loadMore } from "./more.js";

const KEYS = { ArrowLeft: "newer", ArrowRight: "older", Escape: "all" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const link = document.getElementById(KEYS[event.key] ?? "");
  if (link) location.assign(link.href);
});

if (document.getElementById("shared")) {
  loadMore((page) => {
    const items = [...page.querySelectorAll("#shared > li")].map((item) => document.adoptNode(item));
    document.getElementById("shared").append(...items);
    dispatchEvent(new Event("pictures-added"));
    return items[0];
  });
}

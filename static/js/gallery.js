// The gallery: more pictures on demand, those of one day under one heading.
import { loadMore } from "./more.js";

loadMore((page) => {
  const gallery = document.getElementById("gallery");
  let first = null;
  for (const day of page.querySelectorAll(".day")) {
    const last = gallery.lastElementChild;
    first ??= day.querySelector("li");
    if (last.dataset.day === day.dataset.day) last.querySelector("ul").append(...day.querySelectorAll("li"));
    else gallery.append(document.adoptNode(day));
  }
  dispatchEvent(new Event("pictures-added"));
  return first;
});

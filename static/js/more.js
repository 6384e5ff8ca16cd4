// "Load more" without leaving the page. The link's own address works as well, and so does the back key.

// ``take`` gets the next page as a document and returns its first new element. ``auto``: the next page also
// comes by itself before its link is scrolled to. Returns what loads one page and says whether there was one.
export function loadMore(take, { auto = false } = {}) {
  const nearing = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && next(), {
    rootMargin: "800px",
  });

  function begin() {
    const link = document.getElementById("more");
    nearing.disconnect();
    if (auto && link) nearing.observe(link);
  }

  // The first element of the next page; null where there is none. Throws when the server did not answer.
  async function follow() {
    const link = document.getElementById("more");
    if (!link || link.getAttribute("aria-disabled") === "true") return null;
    link.setAttribute("aria-disabled", "true");
    try {
      const answer = await fetch(link.href);
      if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const first = take(page);
      const more = page.getElementById("more");
      if (more) link.replaceWith(document.adoptNode(more));
      else link.remove();
      begin();
      return first;
    } finally {
      link.removeAttribute("aria-disabled");
    }
  }

  async function next() {
    return Boolean(await follow().catch(() => null));
  }

  document.addEventListener("click", async (event) => {
    const link = event.target.closest("#more");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    try {
      const first = await follow();
      first?.querySelector("a")?.focus({ preventScroll: true });
    } catch {
      location.assign(link.href);
    }
  });
  begin();
  return next;
}

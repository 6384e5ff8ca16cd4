// "Load more" without leaving the page. The link's own address works as well, and so does the back key.

// ``take`` gets the next page as a document and returns its first new element.
export function loadMore(take) {
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("#more");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.getAttribute("aria-disabled") === "true") return;
    link.setAttribute("aria-disabled", "true");
    try {
      const answer = await fetch(link.href);
      if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const first = take(page);
      const next = page.getElementById("more");
      if (next) link.replaceWith(document.adoptNode(next));
      else link.remove();
      first?.querySelector("a")?.focus({ preventScroll: true });
    } catch {
      location.assign(link.href);
    }
  });
}

// The last prompts: a list to pick from, and Alt+Up and Alt+Down while typing.

const dialog = document.getElementById("prompts-dialog");
const here = document.getElementById("prompts-here");
const search = document.getElementById("prompts-search");

export function startPrompts(prompt) {
  // Those to step through, newest first; -1 is what was typed before.
  let known = [];
  let at = -1;
  let typed = "";
  let stepping = Promise.resolve();

  function put(text) {
    prompt.value = text;
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
  }

  async function read() {
    const answer = await fetch(dialog.dataset.url).catch(() => null);
    if (!answer?.ok || answer.redirected) return null;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return page.getElementById("prompts");
  }

  async function step(by) {
    if (at < 0) {
      typed = prompt.value;
      const list = await read();
      known = [...(list?.querySelectorAll("[data-prompt]") ?? [])].map(({ textContent }) => textContent);
      known = known.filter((text) => text !== typed);
    }
    const next = Math.min(known.length - 1, Math.max(-1, at + by));
    if (next === at) return;
    put(next < 0 ? typed : known[next]);
    at = next;
  }

  const links = () => [...here.querySelectorAll("li:not([hidden]) a")];

  async function open() {
    search.value = "";
    here.replaceChildren();
    dialog.showModal();
    const list = await read();
    if (list) here.replaceChildren(document.adoptNode(list));
    else here.textContent = "No answer from the server. Close this and open it again.";
  }

  function pick(link) {
    put(link.textContent);
    dialog.close();
    prompt.focus();
  }

  prompt.addEventListener("input", () => (at = -1));
  prompt.addEventListener("keydown", (event) => {
    if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    stepping = stepping.then(() => step(event.key === "ArrowUp" ? 1 : -1));
  });
  document.getElementById("open-prompts").addEventListener("click", open);
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const item of here.querySelectorAll("li")) {
      item.hidden = !words.every((word) => item.textContent.toLowerCase().includes(word));
    }
  });
  here.addEventListener("click", (event) => {
    const link = event.target.closest("[data-prompt]");
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    pick(link);
  });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) {
      if (event.key === "Enter" && event.target === search && links()[0]) pick(links()[0]);
      return;
    }
    event.preventDefault();
    const stops = [search, ...links()];
    stops[Math.min(stops.length - 1, Math.max(0, stops.indexOf(event.target) + by))].focus();
  });
}

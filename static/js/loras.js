// LoRAs of the Generate form: the list to pick from, weights, triggers.

const LOW = -1;
const HIGH = 2;
const share = (weight) => (Math.min(HIGH, Math.max(LOW, weight)) - LOW) / (HIGH - LOW);

// ``changed`` is called after every change, ``prompt`` is the text area. Returns a function that chooses just
// the boxes it is given, in their order.
export function startLoras(prompt, changed) {
  const boxes = document.getElementById("lora-boxes");
  const picker = document.getElementById("picker");
  if (!boxes || !picker) return () => {};
  const add = document.getElementById("add-lora");
  const field = document.getElementById("loras");

  const tick = (box) => box.querySelector(".lora-tick");
  const chosen = () => [...boxes.children].filter((box) => tick(box).checked);
  const boxOf = (slug) => boxes.querySelector(`[data-lora="${CSS.escape(slug)}"]`);

  function choose(box, on) {
    tick(box).checked = on;
    if (on) boxes.append(box);
    show();
    changed();
  }

  function chooseAll(wanted) {
    for (const box of chosen()) tick(box).checked = false;
    for (const box of wanted) {
      boxOf(box.dataset.lora)?.remove();
      boxes.append(document.adoptNode(box));
      showWeight(box);
    }
    show();
    changed();
  }

  function show() {
    const count = chosen().length;
    document.getElementById("loras-count").textContent = count || "";
    for (const card of picker.querySelectorAll("[data-pick]")) {
      card.setAttribute("aria-pressed", String(tick(boxOf(card.dataset.pick)).checked));
    }
    document.getElementById("picker-foot").textContent = `${count} chosen, at most ${field.dataset.most}`;
    [...boxes.children].forEach(showTriggers);
  }

  function showWeight(box) {
    const slider = box.querySelector(".slider");
    const weight = Number(slider.value);
    slider.style.setProperty("--from", `${100 * share(Math.min(0, weight))}%`);
    slider.style.setProperty("--to", `${100 * share(Math.max(0, weight))}%`);
    slider.parentElement.style.setProperty("--tick-share", share(Number(box.dataset.recommended)));
  }

  function showTriggers(box) {
    const text = prompt.value.toLowerCase();
    const chips = [...box.querySelectorAll(".trigger")];
    const here = chips.map((chip) => text.includes(chip.dataset.trigger.toLowerCase()));
    const missing = chips.length > 0 && !here.includes(true);
    chips.forEach((chip, i) => {
      chip.setAttribute("aria-disabled", String(here[i]));
      chip.classList.toggle("missing", missing && i === 0);
      chip.setAttribute("aria-label", here[i] ? `${chip.dataset.trigger}, inserted` : `Insert ${chip.dataset.trigger}`);
    });
    box.querySelector(".trigger-missing").hidden = !missing;
  }

  function insert(word) {
    const text = prompt.value.trimEnd();
    const joint = text === "" ? "" : text.endsWith(",") ? " " : ", ";
    prompt.value = `${text}${joint}${word}`;
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // The server knows all LoRAs; each comes with its box, which waits in the form until it is chosen.
  async function find(search) {
    const words = search.value;
    const answer = await fetch(`${search.dataset.url}?${new URLSearchParams({ q: words })}`).catch(() => null);
    if (!answer?.ok || answer.redirected || words !== search.value) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const box of page.querySelectorAll(".lora-boxes > li")) {
      if (boxOf(box.dataset.lora)) continue;
      boxes.append(document.adoptNode(box));
      showWeight(box);
    }
    const cards = page.querySelector(".picker-cards");
    picker.querySelector(".picker-none").hidden = cards.children.length > 0;
    picker.querySelector(".picker-cards").replaceWith(document.adoptNode(cards));
    show();
  }

  function openPicker(open) {
    picker.hidden = !open;
    add.setAttribute("aria-expanded", String(open));
    // On a phone the list covers the page: what is behind it is out of reach.
    const covers = matchMedia("(max-width: 720px)").matches;
    document.querySelectorAll(".topbar, .tabbar, .view-switch, .setup, .feed").forEach((part) => (part.inert = open && covers));
    if (open) document.getElementById("picker-title").focus();
    else add.focus();
  }

  boxes.addEventListener("input", ({ target }) => {
    const box = target.closest(".lora-box");
    const [slider, number] = [box.querySelector(".slider"), box.querySelector(".lora-weight")];
    if (target === slider) number.value = Number(slider.value).toFixed(2);
    if (target === number) slider.value = number.value;
    showWeight(box);
  });
  boxes.addEventListener("dblclick", ({ target }) => {
    if (!target.matches(".slider")) return;
    target.value = target.closest(".lora-box").dataset.recommended;
    target.dispatchEvent(new Event("input", { bubbles: true }));
  });
  boxes.addEventListener("click", ({ target }) => {
    const trigger = target.closest(".trigger");
    if (trigger && trigger.getAttribute("aria-disabled") !== "true") insert(trigger.dataset.trigger);
    if (!target.closest("[data-remove]")) return;
    choose(target.closest(".lora-box"), false);
    add.focus();
  });
  picker.addEventListener("click", ({ target }) => {
    const card = target.closest("[data-pick]");
    if (card) choose(boxOf(card.dataset.pick), card.getAttribute("aria-pressed") !== "true");
  });
  picker.addEventListener("keydown", (event) => event.key === "Escape" && openPicker(false));
  let typed;
  document.getElementById("lora-search")?.addEventListener("input", ({ target }) => {
    clearTimeout(typed);
    typed = setTimeout(() => find(target), 150);
  });
  add.addEventListener("click", () => openPicker(picker.hidden));
  document.getElementById("close-picker").addEventListener("click", () => openPicker(false));
  prompt.addEventListener("input", () => [...boxes.children].forEach(showTriggers));
  [...boxes.children].forEach(showWeight);
  show();
  return chooseAll;
}

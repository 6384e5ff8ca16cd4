// The library: uploads with progress, search while typing, cards that follow the trials.
import { loadMore } from "./more.js";

const drop = document.getElementById("drop");
const list = document.getElementById("uploads");
const choose = document.getElementById("files");
const here = document.getElementById("cards-here");
const find = document.getElementById("find");
const token = drop.querySelector("[name=csrfmiddlewaretoken]").value;
const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
// More at once only share the line.
const MOST_AT_ONCE = 2;
const waiting = [];
let running = 0;

function line(name) {
  const item = document.createElement("li");
  item.innerHTML = '<b></b><span class="number"></span><button class="button ghost small" type="button">Cancel</button><progress max="1" value="0"></progress><span class="meta"></span>';
  item.querySelector("b").textContent = name;
  item.querySelector("progress").setAttribute("aria-label", `Upload of ${name}`);
  list.append(item);
  return {
    item,
    button: item.querySelector("button"),
    number: item.querySelector(".number"),
    progress: item.querySelector("progress"),
    say: (words, refused = false) => {
      item.querySelector(".meta").textContent = words;
      item.querySelector(".meta").classList.toggle("refused", refused);
    },
  };
}

function enqueue(files) {
  for (const file of files) {
    const shown = line(file.name);
    const job = { file, shown, request: null };
    shown.say("Waits for the uploads before it");
    shown.button.addEventListener("click", () => {
      job.request?.abort();
      if (waiting.includes(job)) waiting.splice(waiting.indexOf(job), 1);
      shown.item.remove();
    });
    waiting.push(job);
  }
  next();
}

function next() {
  while (running < MOST_AT_ONCE && waiting.length) send(waiting.shift());
}

function send(job) {
  const { file, shown } = job;
  const request = (job.request = new XMLHttpRequest());
  const body = new FormData();
  body.append("file", file, file.name);
  running += 1;
  request.open("POST", drop.dataset.url);
  request.setRequestHeader("X-CSRFToken", token);
  request.responseType = "json";
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    shown.progress.value = loaded / total;
    shown.number.textContent = `${Math.floor((100 * loaded) / total)} %`;
    shown.say(loaded < total ? `Uploading ${megabytes(loaded)} of ${megabytes(total)} MB` : "Looking into the file");
  });
  request.addEventListener("loadend", () => {
    running -= 1;
    next();
  });
  request.addEventListener("error", () => end(shown, "No answer from the server. Send the file again."));
  request.addEventListener("load", () => {
    if (request.status === 201) return follow(request.response, shown);
    const [error] = request.response?.errors ?? [];
    end(shown, error?.detail ?? `The server answered ${request.status}. Send the file again.`);
  });
  request.send(body);
}

function end(shown, reason = "") {
  shown.progress.remove();
  shown.number.textContent = reason ? "Refused" : "Ready";
  shown.button.textContent = "Dismiss";
  shown.say(reason, Boolean(reason));
}

const TRIED = { trying: "being tried", works: "works", refused: "does not work", undecided: "undecided" };

async function follow(lora, shown) {
  shown.progress.remove();
  shown.button.textContent = "Dismiss";
  refresh();
  while (lora.state === "validating" && shown.item.isConnected) {
    shown.number.textContent = "Checking";
    shown.say(["The file is safe", ...lora.engines.map(({ engine, state }) => `${engine.toUpperCase()} ${TRIED[state]}`)].join(" · "));
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const answer = await fetch(`${drop.dataset.url}${lora.slug}/`).catch(() => null);
    if (answer?.ok) lora = await answer.json();
  }
  end(shown, lora.state === "refused" ? lora.reason : "");
  refresh();
}

async function refresh(address = location.href) {
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  here.replaceChildren(...document.adoptNode(page.getElementById("cards-here")).childNodes);
  document.getElementById("total").textContent = page.getElementById("total").textContent;
}

choose.addEventListener("change", () => {
  enqueue(choose.files);
  choose.value = "";
});
drop.addEventListener("submit", (event) => event.preventDefault());
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  enqueue(event.dataTransfer.files);
});

let typed;
find.addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => {
    const query = new URLSearchParams([...new FormData(find)].filter(([, value]) => value));
    history.replaceState(null, "", `?${query}`);
    refresh();
  }, 150);
});
loadMore((page) => {
  const cards = [...page.querySelectorAll("#cards > li")];
  document.getElementById("cards").append(...cards.map((card) => document.adoptNode(card)));
  return cards[0];
});
// Cards of LoRAs that are being tried, by whoever sent them.
setInterval(() => document.hidden || !document.querySelector(".library-card.validating") || list.children.length || refresh(), 5000);
drop.dataset.ready = "yes";

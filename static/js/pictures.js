// Settings from a picture: dropped or pasted anywhere on the page, or chosen with the button.

const sender = document.getElementById("from-picture");
const notice = document.getElementById("picture-notice");
const over = document.getElementById("drop-over");
const chooser = document.getElementById("picture");

// ``fill`` gets the page that the server made of a picture's settings, ``refuse`` a cause and a remedy.
export function startPictures(fill, refuse) {
  async function load(picture) {
    if (picture.size > Number(sender.dataset.most)) {
      return refuse(`The file is larger than ${Math.floor(sender.dataset.most / 1e6)} MB.`, "No picture drawn here is.");
    }
    const body = new FormData(sender);
    body.set("picture", picture, picture.name ?? "picture.png");
    const answer = await fetch(sender.action, { method: "POST", body }).catch(() => null);
    if (!answer) return refuse("No answer from the server.", "Check the connection and drop the picture again.");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const told = page.getElementById("picture-notice");
    if (!told && answer.status === 413) {
      // From what stands before the studio: its own answer has a notice.
      return refuse("The server takes no file of this size.", "Whoever runs it can allow more: client_max_body_size in nginx.");
    }
    if (!told) return refuse("You are logged out.", "Log in again in another tab, then drop the picture once more.");
    notice.replaceChildren(...document.adoptNode(told).childNodes);
    notice.scrollIntoView({ block: "nearest" });
    if (answer.ok) fill(page);
  }

  // A picture of this page is dragged by its link; what the browser adds as a file is only the preview.
  async function loadDropped(data) {
    const link = URL.parse?.(data.getData("text/uri-list"));
    const ours = link?.origin === location.origin && link.pathname.match(/^\/images\/[0-9a-f-]{36}\//);
    if (!ours) return data.files[0] && load(data.files[0]);
    const answer = await fetch(`${ours[0]}file/?download=whole`).catch(() => null);
    if (!answer?.ok) return refuse("This picture could not be fetched.", "Look whether it is still there, and drop it again.");
    load(await answer.blob());
  }

  const holdsFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      over.hidden = false;
    });
  }
  document.addEventListener("dragleave", (event) => (over.hidden ||= !event.relatedTarget));
  document.addEventListener("drop", (event) => {
    over.hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    loadDropped(event.dataTransfer);
  });
  document.addEventListener("paste", (event) => {
    const [picture] = event.clipboardData?.files ?? [];
    if (!picture || event.clipboardData.types.includes("text/plain")) return;
    event.preventDefault();
    load(picture);
  });
  document.getElementById("choose-picture").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) load(chooser.files[0]);
    chooser.value = "";
  });
  notice.addEventListener("click", ({ target }) => {
    if (!target.closest("[data-dismiss]")) return;
    notice.replaceChildren();
    document.getElementById("choose-picture").focus();
  });
}

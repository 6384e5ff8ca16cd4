// Links for people without an account: made in a dialog or on a page, copied, revoked.
import { postForm } from "./api.js";
import { announce } from "./controls.js";

const JSON_TYPE = "application/json";
const dialog = document.getElementById("share");
const form = document.getElementById("share-form");

document.getElementById("share-button")?.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  dialog.showModal();
});

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = document.getElementById("share-error");
  error.hidden = true;
  const answer = await postForm(form.action, new FormData(form), JSON_TYPE);
  const made = await answer?.json().catch(() => null);
  if (made?.url) return showMade(made);
  error.querySelector("span").textContent = made?.error ?? "No link was made: the server did not answer as it should. Try again.";
  error.hidden = false;
});

function showMade({ url, until, html }) {
  const address = document.getElementById("share-address");
  address.value = url;
  document.getElementById("share-copy").dataset.copy = url;
  document.getElementById("share-until").textContent = until;
  document.getElementById("share-made").hidden = false;
  showLinks(html);
  address.focus();
  address.select();
  announce("The link is made");
}

function showLinks(html) {
  const links = document.getElementById("share-links");
  if (links) links.innerHTML = html;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-revoke]");
  if (!button || !dialog?.contains(button)) return;
  event.preventDefault();
  const answer = await postForm(button.getAttribute("formaction"), {}, JSON_TYPE);
  if (!answer?.ok) return announce("Not revoked. Try again");
  showLinks((await answer.json()).html);
  document.getElementById("share-made").hidden = true;
  dialog.querySelector(".dialog-end button").focus();
  announce("The link is closed");
});

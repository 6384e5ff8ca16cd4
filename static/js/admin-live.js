// Keeps a list of the admin up to date, as long as nobody is choosing rows in it.
const LIST = "#result_list tbody";

async function refresh() {
  if (document.hidden || document.querySelector(".action-select:checked")) return;
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(LIST);
  if (fresh && !document.querySelector(".action-select:checked")) document.querySelector(LIST)?.replaceWith(fresh);
}

setInterval(refresh, 3000);

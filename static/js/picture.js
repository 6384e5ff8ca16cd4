// One picture: as large as the stage allows, with its own edges.

const image = document.querySelector(".stage-link img");
image.style.setProperty("--ratio", image.getAttribute("width") / image.getAttribute("height"));
image.classList.add("fitted");

const here = document.querySelector(".strip [aria-current]");
const row = here?.closest("ul");
if (row) row.scrollLeft = here.offsetLeft - row.offsetLeft - (row.clientWidth - here.clientWidth) / 2;

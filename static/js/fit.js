// As large as the stage allows, with its own edges. Runs while the page is read, so that nothing moves afterwards.
(() => {
  const image = document.querySelector(".stage-link img");
  image.style.setProperty("--ratio", image.getAttribute("width") / image.getAttribute("height"));
  image.classList.add("fitted");
})();

// Fills each row of pictures to the edge. Runs while the page is read, so that nothing moves afterwards.
(() => {
  function layOut(list) {
    const style = getComputedStyle(list);
    const gap = parseFloat(style.columnGap);
    const width = list.clientWidth;
    const target = innerWidth <= 720 ? 148 : Number(list.dataset.height ?? 206);
    let row = [];
    let shares = 0;
    for (const item of list.children) {
      const image = item.querySelector("img");
      const share = image.getAttribute("width") / image.getAttribute("height");
      row.push([item, share]);
      shares += share;
      const height = (width - gap * (row.length - 1)) / shares;
      if (height <= target) {
        place(row, height, width, gap);
        row = [];
        shares = 0;
      }
    }
    place(row, target, width, gap);
    list.classList.add("laid");
  }

  function place(row, height, width, gap) {
    let left = width - gap * (row.length - 1);
    for (const [item, share] of row) {
      // Whole pixels down, so that a row never wraps for a rounding.
      const wide = Math.min(left, Math.floor(share * height * 100) / 100);
      left -= wide;
      item.style.width = `${wide}px`;
      item.style.height = `${height}px`;
    }
  }

  function justify() {
    document.querySelectorAll(".justified").forEach(layOut);
  }

  justify();
  addEventListener("resize", justify);
  addEventListener("pictures-added", justify);
})();

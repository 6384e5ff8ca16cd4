// Runs before the first paint: the theme that was chosen here, and "js" for rules that need a script.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {
    // Storage is switched off: the page's own theme stays.
  }
})();

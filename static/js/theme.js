// Runs before the first paint: the theme that was chosen here, and "js" for rules that need a script.
(() => {
  const root = document.documentElement;
  const light = matchMedia("(prefers-color-scheme: light)");
  root.classList.add("js");
  const apply = () => {
    try {
      const theme = localStorage.getItem("theme");
      if (theme === "light" || theme === "dark") root.dataset.theme = theme;
      if (theme === "system") root.dataset.theme = light.matches ? "light" : "dark";
    } catch {
      // Storage is switched off: the page's own theme stays.
    }
  };
  apply();
  light.addEventListener("change", apply);
  document.addEventListener("theme-chosen", apply);
})();

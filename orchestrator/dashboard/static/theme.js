// Chooses light or dark before anything is drawn: the browser's preference, unless the user decided.
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("theme") || ""; } catch { return ""; } };
  const apply = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    const button = document.getElementById("theme");
    if (button) button.setAttribute("aria-label", `Colours: ${theme || "automatic"}`);
    if (button) button.title = button.getAttribute("aria-label");
    document.dispatchEvent(new Event("metafleet:theme"));
  };
  apply(stored());
  addEventListener("DOMContentLoaded", () => {
    apply(stored());
    document.getElementById("theme").addEventListener("click", () => {
      const order = ["", "light", "dark"];
      const next = order[(order.indexOf(stored()) + 1) % order.length];
      try { localStorage.setItem("theme", next); } catch { /* private mode: for this page only */ }
      apply(next);
    });
  });
  addEventListener("storage", (event) => { if (event.key === "theme") apply(stored()); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(stored()));
})();

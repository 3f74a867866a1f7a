// What every page has: the theme, set before anything is drawn, and the place where data scripts hand over.
"use strict";

window.serBench = (() => {
  const root = document.documentElement;
  const remember = (value) => { try { localStorage.setItem("ser-bench-theme", value); } catch { /* a page may be forbidden to */ } };
  const recall = () => { try { return localStorage.getItem("ser-bench-theme"); } catch { return null; } };
  const systemTheme = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.classList.add("loading"); // long tables are not laid out before board.js has said what of them is shown
  if (["light", "dark"].includes(recall())) root.dataset.theme = recall();

  addEventListener("load", () => root.classList.remove("loading"));
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("[data-theme-toggle]").addEventListener("click", () => {
      root.dataset.theme = (root.dataset.theme || systemTheme()) === "dark" ? "light" : "dark";
      remember(root.dataset.theme);
    });
  });

  const blocks = new Map();
  let runs = {};
  return {
    // Called by data/board.js: stem -> {name, about, ranks}.
    board(found) { runs = found; },
    get runs() { return runs; },
    // Called by data/STEM.js: partition -> blocks of each seed. Leave-one-out values come as distances in millionths.
    data(stem, partitions) {
      for (const seeds of Object.values(partitions)) {
        for (const block of seeds) {
          for (const column of ["arousal", "valence", "dominance", "mean"]) {
            if (block[column]) block[column] = block[column].map((step) => block.full[column] + step / 1e6);
          }
        }
      }
      blocks.set(stem, partitions);
    },
    // Load a run's blocks. A script, since a page opened as a file may fetch nothing.
    load(stem, base) {
      if (blocks.has(stem)) return Promise.resolve(blocks.get(stem));
      return new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `${base}data/${encodeURIComponent(stem)}.js`;
        script.onload = () => (blocks.has(stem) ? resolve(blocks.get(stem)) : reject(new Error(stem)));
        script.onerror = () => reject(new Error(stem));
        document.head.append(script);
      });
    },
  };
})();

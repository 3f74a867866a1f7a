// A run's page: its ranks, copying, and saving a figure as SVG or PNG.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const standing = document.getElementById("standing");
  const own = window.serBench.runs[standing.dataset.stem];
  for (const place of own ? own.ranks : []) {
    const told = ["seen", "unseen"].filter((side) => place[side]).map((side) => [place[side], side]);
    if (!told.length) continue;
    const line = document.createElement("p");
    told.forEach(([rank, side], number) => {
      const strong = document.createElement("b");
      strong.textContent = `#${rank}`;
      line.append(number ? ", " : "", strong, ` on ${side}`);
    });
    line.append(` · ${place.track}`);
    standing.append(line);
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      const done = await copy(source.textContent).catch(() => false);
      if (!done) getSelection().selectAllChildren(source);
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }
  async function copy(text) {
    if (navigator.clipboard) {
      try { await navigator.clipboard.writeText(text); return true; } catch { /* not allowed here: the older way */ }
    }
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "sr";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }

  // A page's drawing takes its colours from the style sheet; a file must carry them.
  const CARRIED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight", "text-anchor"];
  function alone(drawing) {
    const clone = drawing.cloneNode(true);
    const from = [drawing, ...drawing.querySelectorAll("*")];
    const to = [clone, ...clone.querySelectorAll("*")];
    from.forEach((element, number) => {
      const style = getComputedStyle(element);
      for (const name of CARRIED) to[number].setAttribute(name, style.getPropertyValue(name));
      to[number].removeAttribute("class");
    });
    clone.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    return new Blob([new XMLSerializer().serializeToString(clone)], { type: "image/svg+xml" });
  }
  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => {
      const figure = button.closest("figure");
      const drawing = figure.querySelector("svg");
      const blob = alone(drawing);
      if (button.dataset.save === "svg") { save(blob, `${figure.dataset.figure}.svg`); return; }
      const image = new Image();
      image.onload = () => {
        const canvas = document.createElement("canvas");
        canvas.width = 3 * drawing.width.baseVal.value;
        canvas.height = 3 * drawing.height.baseVal.value;
        canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
        URL.revokeObjectURL(image.src);
        canvas.toBlob((picture) => save(picture, `${figure.dataset.figure}.png`), "image/png");
      };
      image.src = URL.createObjectURL(blob);
    });
  }
});

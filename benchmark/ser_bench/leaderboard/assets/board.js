// The index: sort, filter, search, choose two runs to compare. What is set stands in the address, to be sent on.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".controls");
  const fields = [...form.querySelectorAll("[data-filter]")];
  const tracks = [...document.querySelectorAll(".track")].map((section) => {
    const table = section.querySelector("table");
    const rows = [...table.tBodies[0].rows];
    return { section, table, rows, order: rows, all: false, more: section.querySelector(".rest") };
  });
  // Rows shown of a long table until all are asked for: what is not shown costs a browser nothing.
  const limit = Number(form.dataset.limit);
  const nothing = document.getElementById("nothing");
  const count = document.getElementById("count");
  const valueOf = (field) => (field.type === "checkbox" ? (field.checked ? "1" : "") : field.value.trim());

  // Sorting. Keys are read from the cells once for each column.
  const keys = new Map();
  function columnKeys(track, header) {
    if (keys.has(header)) return keys.get(header);
    const index = cellIndex(header);
    const text = header.dataset.type === "text";
    const found = new Map(track.rows.map((row) => {
      const cell = row.cells[index];
      if (text) return [row, (cell.firstElementChild ?? cell).textContent.trim().toLowerCase()];
      const raw = cell.dataset.v ?? cell.textContent;
      return [row, raw.trim() === "" || Number.isNaN(Number(raw)) ? null : Number(raw)];
    }));
    keys.set(header, found);
    return found;
  }
  // The place of a header's cells in a row of the body, counted over both rows of heads.
  function cellIndex(header) {
    const [over, under] = header.closest("thead").rows;
    let index = 0;
    let below = 0;
    for (const head of over.cells) {
      if (head === header) return index;
      for (let left = head.rowSpan === 2 ? 0 : Number(head.dataset.span); left > 0; left -= 1) {
        if (under.cells[below] === header) return index;
        below += 1;
        index += 1;
      }
      if (head.rowSpan === 2) index += 1;
    }
    return -1;
  }
  function sort(track, header, direction) {
    const found = columnKeys(track, header);
    const sign = direction === "ascending" ? 1 : -1;
    track.order = [...track.rows].sort((one, other) => {
      const [a, b] = [found.get(one), found.get(other)];
      if (a === b) return 0;
      if (a === null) return 1; // what has no value stands last, either way
      if (b === null) return -1;
      return (a < b ? -1 : 1) * sign;
    });
    const body = track.table.tBodies[0];
    const next = body.nextSibling;
    body.remove(); // rows that move outside the page are cheap
    body.append(...track.order);
    track.table.insertBefore(body, next);
    apply();
    for (const head of track.table.querySelectorAll("[aria-sort]")) head.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
  }
  for (const track of tracks) {
    track.more.firstElementChild.addEventListener("click", () => { track.all = true; apply(); });
    track.table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("[data-sort]");
      if (!button) return;
      const header = button.closest("th");
      const first = header.dataset.type === "text" || header.classList.contains("rank") ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      sort(track, header, header.getAttribute("aria-sort") === first ? other : first);
    });
  }

  // A side's head spans the columns shown; on a phone, or with one attribute chosen, that is fewer than there are.
  const heads = [...document.querySelectorAll("th.side")];
  for (const head of heads) head.dataset.span = head.colSpan;
  function span() {
    for (const head of heads) {
      const side = head.classList[1];
      const under = [...head.closest("thead").rows[1].cells].filter((cell) => cell.classList.contains(side));
      head.colSpan = Math.max(1, under.filter((cell) => getComputedStyle(cell).display !== "none").length);
    }
  }
  matchMedia("(max-width: 700px)").addEventListener("change", span);

  // Filtering.
  function apply() {
    const wanted = Object.fromEntries(fields.map((field) => [field.dataset.filter, valueOf(field)]));
    const words = wanted.search.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let all = 0;
    for (const { section, table, rows, order, all: whole, more } of tracks) {
      const fits = ["corpus", "transcripts", "condition"].every((key) => !wanted[key] || section.dataset[key] === wanted[key]);
      let visible = 0;
      for (const row of order) {
        const keep = fits
          && ["modality", "strategy", "status"].every((key) => !wanted[key] || row.dataset[key] === wanted[key])
          && (!wanted.ranked || "ranked" in row.dataset)
          && words.every((word) => row.dataset.search.includes(word));
        visible += keep ? 1 : 0;
        const hide = !keep || (!whole && visible > limit);
        if (row.hidden !== hide) row.hidden = hide;
      }
      more.hidden = whole || visible <= limit;
      more.firstElementChild.textContent = `Show all ${visible} rows`;
      section.hidden = visible === 0;
      table.dataset.side = wanted.side;
      table.dataset.attribute = wanted.attribute;
      shown += visible;
      all += rows.length;
    }
    nothing.hidden = shown > 0;
    count.textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
  }
  for (const field of fields.filter((one) => ["side", "attribute"].includes(one.dataset.filter))) field.addEventListener("input", () => setTimeout(span));
  function write() {
    const set = fields.filter((field) => valueOf(field)).map((field) => [field.dataset.filter, valueOf(field)]);
    const hash = new URLSearchParams(set).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }
  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) {
      const value = given.get(field.dataset.filter) || "";
      if (field.type === "checkbox") field.checked = value === "1";
      else if (field.tagName !== "SELECT" || [...field.options].some((option) => option.value === value)) field.value = value;
    }
  }
  form.addEventListener("input", () => { apply(); write(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { apply(); write(); span(); }));
  addEventListener("hashchange", () => { read(); apply(); span(); });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    document.getElementById("f-search").focus();
  });

  const more = document.getElementById("more"); // on a phone the filters fold away
  more.addEventListener("click", () => more.setAttribute("aria-expanded", String(form.classList.toggle("open"))));

  // Choosing two runs. The same run may stand in several tracks.
  const tray = document.getElementById("tray");
  const go = document.getElementById("tray-go");
  let chosen = [];
  function show() {
    for (const box of document.querySelectorAll(".pick input")) box.checked = chosen.some((one) => one.stem === box.value);
    tray.hidden = chosen.length === 0;
    document.getElementById("tray-names").textContent = chosen.map((one) => one.name).join(" and ") + (chosen.length === 1 ? " and …" : "");
    go.setAttribute("aria-disabled", String(chosen.length < 2));
    const [a, b] = chosen;
    go.href = `compare.html#${new URLSearchParams({ ...(a && { a: a.stem }), ...(b && { b: b.stem }) })}`;
  }
  document.addEventListener("change", (event) => {
    if (!event.target.matches(".pick input")) return;
    const { value: stem, checked, dataset } = event.target;
    chosen = chosen.filter((one) => one.stem !== stem);
    if (checked) chosen = [...chosen, { stem, name: dataset.name }].slice(-2);
    show();
  });
  document.getElementById("tray-clear").addEventListener("click", () => { chosen = []; show(); });

  read();
  apply();
  document.documentElement.classList.remove("loading");
  span();
  show();
});

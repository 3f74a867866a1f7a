// The page that compares two runs.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const { runs, statistics } = window.serBench;
  const [first, second] = ["run-a", "run-b"].map((id) => document.getElementById(id));
  const margin = document.getElementById("margin");
  const message = document.getElementById("message");
  const result = document.getElementById("result");
  const WORDS = { test1: "seen (test1)", test2: "unseen (test2)", development: "development", test3: "test3" };
  const stems = Object.keys(runs).sort((one, other) => runs[one].name.localeCompare(runs[other].name) || (one < other ? -1 : 1));

  for (const select of [first, second]) {
    select.append(new Option("choose a run", ""));
    for (const stem of stems) select.append(new Option(`${runs[stem].name} (${runs[stem].about}) ${stem.slice(-8)}`, stem));
  }
  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    // Only names that the board knows: an address cannot make the page load another script.
    for (const [select, key] of [[first, "a"], [second, "b"]]) select.value = stems.includes(given.get(key)) ? given.get(key) : "";
    if (Number(given.get("margin")) > 0) margin.value = given.get("margin");
  }
  function write() {
    const set = { ...(first.value && { a: first.value }), ...(second.value && { b: second.value }) };
    if (margin.value !== "0.01") set.margin = margin.value;
    history.replaceState(null, "", `#${new URLSearchParams(set)}`);
  }
  function say(words) {
    message.textContent = words;
    message.hidden = !words;
  }

  let latest = 0;
  async function show() {
    latest += 1;
    const turn = latest;
    result.replaceChildren();
    if (!stems.length) { say("No run stands on this leaderboard yet, so there is nothing to compare."); return; }
    if (!first.value || !second.value) { say("Choose two runs."); return; }
    if (!(Number(margin.value) > 0)) { say("The margin is a CCC above 0, such as 0.01."); return; }
    say("");
    let found;
    try {
      found = await Promise.all([first, second].map((select) => window.serBench.load(select.value, "")));
    } catch (error) {
      say(`The data of ${error.message} cannot be read. Render the leaderboard again.`);
      return;
    }
    if (turn !== latest) return; // another choice was made meanwhile
    const [a, b] = found;
    const shared = ["test1", "test2", "test3", "development"].filter((name) => a[name] && b[name]);
    if (!shared.length) say("These two runs were scored on no partition in common.");
    for (const partition of shared) result.append(section(partition, a[partition], b[partition]));
  }
  const text = (tag, words, name) => {
    const element = document.createElement(tag);
    element.textContent = words;
    if (name) element.className = name;
    return element;
  };
  const told = (value) => value.toFixed(3).replace("-", "−");
  const signed = (value) => (value > 0 ? "+" : "") + told(value);

  function section(partition, a, b) {
    const part = text("section", "", "result");
    part.append(text("h2", WORDS[partition]));
    const reason = statistics.unpaired([...a, ...b]);
    if (reason) {
      part.append(text("p", `Not comparable in pairs: the two runs have different ${reason} here. Score one of them again on the same release.`, "empty"));
      return part;
    }
    const found = statistics.compare(a, b, Number(margin.value));
    const columns = Object.keys(found).filter((column) => found[column]);
    const reach = Math.max(Number(margin.value) * 1.5, ...columns.flatMap((c) => (found[c].ci95 || [found[c].value]).map(Math.abs))) * 1.08;
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const [words, name] of [["Attribute", ""], ["A", "num of-run"], ["B", "num of-run"], ["A − B", "num"], ["95 % interval", "num"], ["", "drawn"], ["p", "num p"], ["Verdict on A", ""]]) {
      const cell = text("th", words, name);
      cell.scope = "col";
      if (!words) cell.append(text("span", "Difference, drawn", "sr"));
      head.append(cell);
    }
    const body = table.createTBody();
    for (const column of columns) {
      const d = found[column];
      const row = body.insertRow();
      const name = text("th", column);
      name.scope = "row";
      row.append(name);
      row.append(text("td", told(d.a), "num of-run"), text("td", told(d.b), "num of-run"), text("td", signed(d.value), "num"));
      row.append(text("td", d.ci95 ? `${signed(d.ci95[0])} to ${signed(d.ci95[1])}` : "–", "num"));
      const drawn = text("td", "", "drawn");
      drawn.append(picture(d, reach, column));
      row.append(drawn, text("td", d.p < 0.001 ? "< 0.001" : d.p.toFixed(3), "num p"));
      const verdict = document.createElement("td");
      verdict.append(text("span", d.verdict, `verdict ${d.verdict.replace(" ", "-")}`));
      if (d.negligible && d.verdict !== "on par") verdict.append(text("span", "real, but inside the margin", "about"));
      row.append(verdict);
      row.dataset.column = column;
    }
    const scroll = text("div", "", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `Differences on ${WORDS[partition]}`);
    scroll.append(table);
    const clusters = a[0].sizes.length;
    part.append(scroll, text("p", `${clusters} clusters (speakers, or podcasts where the speaker is not known), ${a.length} and ${b.length} ${a.length + b.length > 2 ? "seeds" : "seed each"}.${clusters < 20 ? " Few clusters: intervals are wide, and under 5 nothing is decided." : ""}`, "foot"));
    return part;
  }
  function picture(d, reach, column) {
    const NS = "http://www.w3.org/2000/svg";
    const make = (tag, attributes, parent) => {
      const element = document.createElementNS(NS, tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      parent?.append(element);
      return element;
    };
    const x = (value) => (150 + (value / reach) * 145).toFixed(1);
    const drawing = make("svg", { class: "drawing", viewBox: "0 0 300 34", role: "img", "aria-label": `${column}: ${signed(d.value)}` });
    const m = Math.min(Number(margin.value), reach);
    make("rect", { class: "inside", x: x(-m), y: 2, width: x(m) - x(-m), height: 30 }, drawing);
    make("path", { class: "guide", d: "M150 0V34" }, drawing);
    const series = { arousal: "a", valence: "v", dominance: "d", mean: "m" }[column];
    if (d.ci95) make("path", { class: `line-${series}`, d: `M${x(d.ci95[0])} 17H${x(d.ci95[1])}` }, drawing);
    make("circle", { class: `fill-${series}`, cx: x(d.value), cy: 17, r: 4.5 }, drawing);
    return drawing;
  }

  for (const control of [first, second, margin]) control.addEventListener("change", () => { write(); show(); });
  document.getElementById("swap").addEventListener("click", () => {
    [first.value, second.value] = [second.value, first.value];
    write();
    show();
  });
  addEventListener("hashchange", () => { read(); show(); });
  read();
  show();
});

"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Tables: a heading sorts its column, undefined values stay at the end; filters hide rows.

const collator = new Intl.Collator("en", { numeric: true });

function sortKey(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value === undefined) return cell.textContent.trim();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compare(a, b) {
  return typeof a === "number" ? a - b : collator.compare(a, b);
}

function sortTable(table, heading) {
  const falling = heading.getAttribute("aria-sort") === "ascending" ||
    (heading.getAttribute("aria-sort") === "none" && heading.classList.contains("value"));
  for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const keyed = [...table.tBodies[0].rows].map((row) => [sortKey(row, heading.cellIndex), row]);
  const defined = keyed.filter(([key]) => key !== null).sort(([a], [b]) => (falling ? compare(b, a) : compare(a, b)));
  const undefinedOnes = keyed.filter(([key]) => key === null);
  table.tBodies[0].append(...[...defined, ...undefinedOnes].map(([, row]) => row));
}

for (const table of all("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => sortTable(table, heading));
  }
}

function filterTable(controls) {
  const rows = [...document.getElementById(controls.dataset.filters).tBodies[0].rows];
  const wanted = all("[data-column]", controls).map((field) => [field.dataset.column, field.value.trim(), field]);
  for (const row of rows) {
    row.hidden = !wanted.every(([column, value, field]) => {
      if (!value) return true;
      if (field.tagName === "SELECT") return row.dataset[column] === value;
      const words = row.dataset[column] + " " + row.textContent;
      return words.toLowerCase().includes(value.toLowerCase());
    });
  }
  controls.querySelector("output").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
}

for (const controls of all("[data-filters]")) {
  controls.addEventListener("input", () => filterTable(controls));
  filterTable(controls);
}

// Gallery: which cards, in which order, with which method; a click enlarges.

const panel = document.getElementById("gallery-controls");
if (panel) {
  const trainings = JSON.parse(panel.dataset.trainings);
  const directions = JSON.parse(panel.dataset.directions);
  const [first, last] = [trainings[0], trainings[trainings.length - 1]];
  const list = document.querySelector(".cards");
  const cards = all(".card", list).map((node) => ({ node, scores: JSON.parse(node.dataset.scores) }));
  const choice = (name) => panel.querySelector(`[data-choice="${name}"]`)?.value ?? "";
  const dialog = document.getElementById("lightbox");
  let shown = cards;
  let current = 0;

  const score = (card, training) => card.scores[choice("method")]?.[choice("metric")]?.[training] ?? null;

  function rank(card) {
    const better = directions[choice("metric")] === false ? -1 : 1;
    const after = score(card, last);
    if (after === null) return null;
    const order = choice("order");
    if (order === "worst") return better * after;
    if (order === "best") return -better * after;
    const before = score(card, first);
    if (before === null) return null;
    return (order === "gain" ? -better : better) * (after - before);
  }

  function arrange() {
    shown = cards.filter(({ node }) => ["class", "scope"].every((name) => !choice(name) || node.dataset[name] === choice(name)));
    if (choice("order")) {
      const keyed = shown.map((card) => [rank(card) ?? Infinity, card]);
      shown = keyed.sort(([a], [b]) => (a === b ? 0 : a - b)).map(([, card]) => card);
    }
    for (const card of cards) {
      card.node.hidden = !shown.includes(card);
      for (const row of all(".row", card.node)) row.hidden = row.dataset.method !== choice("method");
      for (const place of all("b[data-training]", card.node)) {
        const value = score(card, place.dataset.training);
        place.textContent = value === null ? "" : value.toFixed(3);
      }
    }
    list.append(...shown.map((card) => card.node));
    panel.querySelector("output").value = `${shown.length} of ${cards.length} images`;
  }

  function enlarge(place) {
    current = (place + shown.length) % shown.length;
    const { node } = shown[current];
    const row = node.querySelector(".row:not([hidden])");
    document.getElementById("lightbox-title").textContent = [node.querySelector("h3").textContent.trim(), row?.dataset.title].filter(Boolean).join(": ");
    const parts = [node.querySelector("button > .cell"), row].filter(Boolean);
    dialog.querySelector(".enlarged").replaceChildren(...parts.map((part) => part.cloneNode(true)));
    if (!dialog.open) dialog.showModal();
  }

  panel.addEventListener("input", arrange);
  list.addEventListener("click", (event) => {
    const node = event.target.closest("button")?.closest(".card");
    if (node) enlarge(shown.findIndex((card) => card.node === node));
  });
  dialog.addEventListener("click", (event) => {
    const step = event.target.closest("[data-step]");
    if (step) enlarge(current + Number(step.dataset.step));
    else if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) enlarge(current + step);
  });
  arrange();
}

// Paper has no folds.

let folded = [];
addEventListener("beforeprint", () => {
  folded = all("details:not([open])");
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded) details.open = false;
});

"use strict";
// Sorting and filtering of tables, and marking of the chosen detector.

function sortTable(table, column, descending) {
  const body = table.tBodies[0];
  const numeric = table.tHead.rows[0].cells[column].dataset.kind === "number";
  const rows = Array.from(body.rows, (row, i) => [row.cells[column].dataset.value ?? "", i, row]);
  rows.sort(([a, i], [b, j]) => {
    if (a === b) return i - j;
    if (a === "") return 1; // what isn't known is last in either order
    if (b === "") return -1;
    const order = numeric ? Number(a) - Number(b) : a.localeCompare(b);
    return (descending ? -order : order) || i - j;
  });
  body.append(...rows.map(([, , row]) => row));
}

function makeSortable(table) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortTable(table, column, descending);
    });
  });
}

function makeFilterable(section) {
  const form = section.querySelector(".filters");
  const table = section.querySelector("table.sortable");
  if (!form || !table) return;
  const fields = Array.from(form.querySelectorAll("[data-filter]"));
  const update = () => {
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const hidden = fields.some((field) => {
        const wanted = field.value.trim();
        if (!wanted) return false;
        if (field.dataset.filter === "text") return !row.textContent.toLowerCase().includes(wanted.toLowerCase());
        return row.dataset[field.dataset.filter] !== wanted;
      });
      row.hidden = hidden;
      if (!hidden) shown += 1;
    }
    form.querySelector("output").textContent = `${shown} of ${table.tBodies[0].rows.length} shown`;
  };
  fields.forEach((field) => field.addEventListener("input", update));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  update(); // a browser may have kept what was typed
}

function markDetector() {
  for (const link of document.querySelectorAll("a.detector")) {
    const chosen = link.getAttribute("href") === location.hash;
    link.classList.toggle("chosen", chosen);
    if (chosen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("[data-table]").forEach(makeFilterable);
window.addEventListener("hashchange", markDetector);
markDetector();

"use strict";
// Sort by a click on a column's title, filter by text; the table is whole without it.
const table = document.getElementById("table");
const body = table.tBodies[0];
const rows = [...body.rows];
const search = document.createElement("input");
search.type = "search";
search.placeholder = "Filter scans";
search.setAttribute("aria-label", "Filter scans");
search.addEventListener("input", () => {
  const wanted = search.value.toLowerCase();
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
table.parentElement.before(search);
[...table.tHead.rows[0].cells].forEach((title, column) => {
  const button = document.createElement("button");
  button.textContent = title.textContent;
  title.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = title.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].textContent;
    const order = (a, b) => (isNaN(key(a)) - isNaN(key(b))) || key(a).localeCompare(key(b), "en", { numeric: true });
    const numbers = (a, b) => (isNaN(key(a)) || isNaN(key(b)) ? order(a, b) : key(a) - key(b));
    body.append(...rows.sort((a, b) => (down ? -1 : 1) * numbers(a, b)));
  });
});

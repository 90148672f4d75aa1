"use strict";
// Sort by a click on a column's title, filter by text. Of a short table the rows of the page are moved and hidden; of a
// long one the page has the first rows, and all as data, of which the first matches are shown.
const SHOWN = 300;
const table = document.getElementById("table");
const body = table.tBodies[0];
const block = document.getElementById("rows");

const ofElement = (row) => ({ cells: [...row.cells].map((cell) => cell.textContent), element: row });
const ofData = ([scan, href, isFlagged, ...cells]) => ({ cells: [scan, ...cells], href, isFlagged });
const rows = block ? JSON.parse(block.textContent).map(ofData) : [...body.rows].map(ofElement);

function elementOf(row) {
  if (row.element) return row.element;
  const element = document.createElement("tr");
  if (row.isFlagged) element.className = "f";
  const title = element.appendChild(document.createElement("th"));
  title.scope = "row";
  const link = row.href ? title.appendChild(document.createElement("a")) : title;
  if (row.href) link.href = row.href;
  link.textContent = row.cells[0];
  for (const text of row.cells.slice(1)) element.appendChild(document.createElement("td")).textContent = text;
  return element;
}

const search = document.createElement("input");
search.type = "search";
search.placeholder = "Filter scans";
search.setAttribute("aria-label", "Filter scans");
const told = document.createElement("p");
told.className = "quiet";
told.setAttribute("role", "status");
table.parentElement.before(search, told);

function show() {
  const wanted = search.value.toLowerCase();
  for (const row of rows) row.text ??= row.cells.join("\t").toLowerCase();
  const found = rows.filter((row) => row.text.includes(wanted));
  const few = block ? found.slice(0, SHOWN) : found;
  body.replaceChildren(...few.map(elementOf));
  const rest = found.length > few.length ? `, of which the first ${few.length} are shown` : "";
  told.textContent = wanted || rest ? `${found.length} of ${rows.length} rows${rest}` : "";
}

search.addEventListener("input", show);
[...table.tHead.rows[0].cells].forEach((title, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = title.textContent;
  title.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = title.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const collator = new Intl.Collator("en", { numeric: true });
    const key = (row) => row.cells[column];
    // What is no number among numbers comes last, whichever way they are sorted.
    const order = (a, b) => (isNaN(key(a)) ? collator.compare(key(a), key(b)) : key(a) - key(b));
    rows.sort((a, b) => (isNaN(key(a)) - isNaN(key(b))) || (down ? -1 : 1) * order(a, b));
    show();
  });
});

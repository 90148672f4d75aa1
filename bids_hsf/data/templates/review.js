// The contact sheet. It makes the cards of one page at a time, so that their number does not matter.
const PAGE = 48;
const MOST_PRINTED = 1000;
const VIEWS = [["segmentation", "Outlines"], ["entropy", "Uncertainty"], ["localization", "Localization"], ["plain", "Scan alone"]];
const at = (id) => document.getElementById(id);
const make = (tag, values = {}, ...inner) => {
  const element = Object.assign(document.createElement(tag), values);
  element.append(...inner);
  return element;
};

const told = JSON.parse(at("scans").textContent);
const column = (name) => told.columns[name] ?? [];
const choice = (name, row) => told.choices[name].values[told.choices[name].codes[row]];
const all = column("scan").map((_, row) => row);
const keys = all.map((row) => keyOf(column("scan")[row], choice("model", row)));
const known = new Set(keys);
const given = new Map();
told.ratings.forEach(([row, rating, comment, when]) => given.set(keys[row], { rating, comment, at: when }));
const ratings = new Ratings(location.pathname.replace(/[^/]*$/, ""), given);
const collator = new Intl.Collator("en", { numeric: true });

let rows = all;
let first = 0;
let current = 0;
let view = "segmentation";
let rest = 0;

const isFlagged = (row) => ["check", "fail"].includes(choice("weight", row));
const isDone = (row) => choice("status", row) === "done";
const page = (row) => encodeURIComponent(column("stem")[row].split("_")[0]);
const anchorOf = (row) =>
  [column("scan")[row], choice("model", row), choice("segmentation", row)]
    .filter((part) => part)
    .join("-")
    .replace(/[^A-Za-z0-9_-]/gu, (letter) => `.${letter.codePointAt(0).toString(16)}`);
const address = (row) => `${page(row)}.html#${anchorOf(row)}`;
// A name that ends with a description takes the next one up, see `bids.names.described`.
const picture = (row, kind) => {
  const stem = column("stem")[row];
  const joint = stem.endsWith("_desc-multispectral") ? "" : "_desc-";
  return `${page(row)}/figures/${encodeURIComponent(`${stem}${joint}${kind}_dseg.svg`)}`;
};
const say = (text) => { at("said").textContent = text; };
const few = (words, most = 5) => words.slice(0, most).join(", ") + (words.length > most ? ", …" : "");
const shownTitle = (row) => (told.choices.model.values.length > 1 ? `${column("scan")[row]} · ${choice("model", row)}` : column("scan")[row]);

function ratingBar(row, redraw) {
  const now = () => ratings.get(keys[row]);
  const change = (rating, comment) => {
    ratings.set(keys[row], rating, comment);
    showProgress();
    redraw();
  };
  const buttons = RATINGS.map((rating) => {
    const button = make("button", { type: "button", className: `rate ${rating}`, textContent: rating });
    button.setAttribute("aria-pressed", String(now().rating === rating));
    button.addEventListener("click", () => change(now().rating === rating ? "" : rating, now().comment));
    return button;
  });
  const comment = make("input", { type: "text", className: "comment", value: now().comment, placeholder: "comment", autocomplete: "off" });
  comment.setAttribute("aria-label", `Comment on ${shownTitle(row)}`);
  // Not drawn anew: whoever writes must not lose the field.
  comment.addEventListener("input", () => { ratings.set(keys[row], now().rating, plain(comment.value)); showProgress(); });
  const bar = make("div", { className: "rating" }, ...buttons, comment);
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", `Rating of ${shownTitle(row)}`);
  return bar;
}

function facts(row) {
  const parts = [];
  for (const [name, before, after] of [["left", "left", "mm³"], ["right", "right", "mm³"], ["asymmetry", "L − R", "%"], ["dice", "expected Dice", ""]]) {
    const value = column(name)[row];
    // Spaces that do not break, and a minus sign.
    if (value != null) parts.push(`${before} ${value} ${after}`.trim().replaceAll(" ", "\u00a0").replace("-", "−"));
  }
  return parts.join(" · ");
}

// Of an image that is not there, the next of these is shown; in the end it is said.
function fallBack(image, sources) {
  image.addEventListener("error", () => {
    const next = sources.shift();
    if (next) image.src = next;
    else image.replaceWith(make("span", { className: "nothing", textContent: "no picture" }));
  });
}

function smallPicture(row) {
  const image = make("img", { loading: "lazy", decoding: "async", width: 360, height: 262, alt: `Outlines on ${shownTitle(row)}` });
  // Folders of older versions have the large picture alone.
  const sources = ["thumbnail", "segmentation"].map((kind) => picture(row, kind));
  fallBack(image, sources);
  image.src = sources.shift();
  return image;
}

function drawCard(place) {
  const row = rows[place];
  const open = make("button", { type: "button", className: "open" });
  open.append(isDone(row) ? smallPicture(row) : make("span", { className: "nothing", textContent: choice("status", row) }));
  open.setAttribute("aria-label", `Enlarge ${shownTitle(row)}`);
  open.addEventListener("focus", () => { current = place; markCurrent(); });
  open.addEventListener("click", () => enlarge(place));
  const title = make("a", { href: address(row), textContent: shownTitle(row) });
  const parts = [open, make("h3", {}, isDone(row) ? title : shownTitle(row)), make("p", { className: "quiet", textContent: facts(row) })];
  const remark = column("remark")[row];
  if (remark) parts.push(make("p", { className: `remark ${choice("weight", row)}`, textContent: remark }));
  const card = make("li", { className: "card" });
  const redraw = () => {
    card.dataset.rating = ratings.get(keys[row]).rating;
    card.lastElementChild.replaceWith(ratingBar(row, redraw));
  };
  card.append(...parts, ratingBar(row, redraw));
  card.dataset.rating = ratings.get(keys[row]).rating;
  card.addEventListener("pointerdown", () => { current = place; markCurrent(); });
  return card;
}

function markCurrent() {
  [...at("cards").children].forEach((card, place) => card.classList.toggle("current", first + place === current));
}

function draw() {
  first = Math.floor(current / PAGE) * PAGE;
  at("cards").replaceChildren(...rows.slice(first, first + PAGE).map((_, place) => drawCard(first + place)));
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  at("place").textContent = rows.length ? `Page ${first / PAGE + 1} of ${pages}, ${rows.length} scans` : "No scan is left by these filters.";
  at("unprinted").textContent = "";
  at("earlier").disabled = first === 0;
  at("later").disabled = first + PAGE >= rows.length;
  markCurrent();
  showProgress();
  // Whoever stays gets all pictures of the page, scrolled to or not: the browser's own menu prints them as they are.
  clearTimeout(rest);
  rest = setTimeout(hurry, 500);
}

function showProgress() {
  const counts = Object.fromEntries(RATINGS.map((rating) => [rating, 0]));
  let n = 0;
  for (const key of keys) {
    const { rating } = ratings.get(key);
    if (rating) { counts[rating] += 1; n += 1; }
  }
  const gone = ratings.gone(known).map(scanOf);
  const kept = ratings.isKept ? "" : " This browser keeps nothing: export before you close the page.";
  const others = gone.length ? ` ${gone.length} more of scans that are not here: ${few(gone)}.` : "";
  at("progress").textContent = `${n} of ${keys.length} rated: ${RATINGS.map((rating) => `${counts[rating]} ${rating}`).join(", ")}.${others}${kept}`;
}

function goTo(place) {
  if (!rows.length) return;
  current = Math.min(Math.max(place, 0), rows.length - 1);
  if (current < first || current >= first + PAGE) draw();
  if (at("large").open) showLarge();
  else at("cards").children[current - first].querySelector(".open").focus();
  markCurrent();
}

function enlarge(place) {
  current = place;
  if (!at("large").open) at("large").showModal();
  showLarge();
}

function showLarge() {
  const row = rows[current];
  at("large-title").replaceChildren(make("a", { href: address(row), textContent: shownTitle(row) }));
  at("large-remark").className = `remark ${choice("weight", row)}`;
  at("large-remark").textContent = [column("remark")[row], facts(row)].filter((part) => part).join(" · ");
  const image = make("img", { alt: `${VIEWS.find(([kind]) => kind === view)[1]}: ${shownTitle(row)}` });
  const layer = `${picture(row, "segmentation")}#${view}`;
  // Folders of older versions have a file of its own for the entropy.
  const sources = view === "entropy" ? [layer] : [];
  fallBack(image, sources);
  image.src = view === "plain" ? layer : picture(row, view);
  at("large-stack").replaceChildren(...(isDone(row) ? [image] : []));
  const bar = () => at("large-rating").replaceChildren(ratingBar(row, bar));
  bar();
  [...at("views").children].forEach((button, place) => button.setAttribute("aria-pressed", String(VIEWS[place][0] === view)));
  at("previous").disabled = current === 0;
  at("next").disabled = current === rows.length - 1;
}

function filter() {
  const wanted = at("search").value.toLowerCase();
  const show = at("show").value;
  const chosen = [...at("filters").querySelectorAll("select")].filter((select) => select.value !== "");
  const tests = {
    all: () => true,
    flagged: isFlagged,
    unrated: (row) => !ratings.get(keys[row]).rating,
    undone: (row) => !isDone(row),
  };
  const test = tests[show] ?? ((row) => ratings.get(keys[row]).rating === show);
  rows = all.filter(
    (row) =>
      test(row) &&
      chosen.every((select) => choice(select.name, row) === select.value) &&
      (!wanted || `${column("scan")[row]} ${column("remark")[row] ?? ""} ${ratings.get(keys[row]).comment}`.toLowerCase().includes(wanted)),
  );
  if (at("order").value === "name") rows.sort((a, b) => collator.compare(keys[a], keys[b]));
  current = 0;
  draw();
}

function addFilters() {
  for (const [name, { values, title }] of Object.entries(told.choices)) {
    if (!title || values.length < 2) continue;
    const select = make("select", { name }, make("option", { value: "", textContent: "all" }));
    select.append(...[...values].sort(collator.compare).map((value) => make("option", { value, textContent: value || NONE })));
    at("filters").append(make("label", {}, `${title} `, select));
  }
}

function download() {
  const link = make("a", { download: "qc.tsv", href: URL.createObjectURL(new Blob([ratings.toTsv()], { type: "text/tab-separated-values" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say("qc.tsv is among your downloads.");
}

const pictures = () => [...at("cards").querySelectorAll("img")];
const hurry = () => { for (const image of pictures()) image.loading = "eager"; };

// Loads what nobody has scrolled to; each picture is shown or replaced in the end.
async function allPictures() {
  hurry();
  while (pictures().some((image) => !image.naturalWidth)) {
    await Promise.allSettled(pictures().map((image) => image.decode()));
    await new Promise((done) => { setTimeout(done); });
  }
}

// All that the filters leave, on one sheet.
async function printAll() {
  const n = Math.min(rows.length, MOST_PRINTED);
  first = 0;
  at("cards").replaceChildren(...rows.slice(0, n).map((_, place) => drawCard(place)));
  at("place").textContent = n < rows.length ? `The first ${n} of ${rows.length} scans` : `${n} scans`;
  await allPictures();
  addEventListener("afterprint", draw, { once: true });
  window.print();
}

async function takeFile(file) {
  try {
    const { taken, older, elsewhere, differ, faults } = ratings.takeTsv(decoded(await file.arrayBuffer()), known);
    const parts = [`${taken} rating(s) taken from ${file.name}`];
    if (older) parts.push(`${older} are newer here and stay`);
    if (elsewhere) parts.push(`${elsewhere} are of scans that this page does not have`);
    const words = differ.map(({ key, here, there, isOlder }) => `${scanOf(key)} (${here} here, ${there} there; ${isOlder ? here : there} stays)`);
    if (words.length) parts.push(`${words.length} were rated otherwise here: ${few(words)}`);
    if (faults.length) parts.push(`lines that are no rating: ${few(faults, 10)}`);
    say(`${parts.join("; ")}.`);
  } catch (error) {
    say(`${file.name} is ${error.message}.`);
  }
  draw();
}

const perRow = () => {
  const tops = [...at("cards").children].map((card) => card.offsetTop);
  return Math.max(1, tops.filter((top) => top === tops[0]).length);
};
const inLarge = () => at("large").open;

function rate(rating) {
  const key = keys[rows[current]];
  ratings.set(key, rating, ratings.get(key).comment);
  say(`${column("scan")[rows[current]]}: ${rating || "not rated"}`);
  const card = at("cards").children[current - first];
  if (card) card.replaceWith(drawCard(current));
  showProgress();
  goTo(rating ? current + 1 : current);
}

function comment() {
  const from = inLarge() ? at("large-rating") : at("cards").children[current - first];
  from?.querySelector(".comment").focus();
}

function turn() {
  view = VIEWS[(VIEWS.findIndex(([kind]) => kind === view) + 1) % VIEWS.length][0];
  if (inLarge()) showLarge();
}

const ACTIONS = {
  ArrowRight: () => goTo(current + 1),
  ArrowLeft: () => goTo(current - 1),
  ArrowDown: () => goTo(current + (inLarge() ? 1 : perRow())),
  ArrowUp: () => goTo(current - (inLarge() ? 1 : perRow())),
  j: () => goTo(current + 1),
  k: () => goTo(current - 1),
  g: () => rate("good"),
  u: () => rate("usable"),
  x: () => rate("exclude"),
  0: () => rate(""),
  c: comment,
  e: () => (inLarge() ? at("large").close() : enlarge(current)),
  v: turn,
  o: () => isDone(rows[current]) && location.assign(address(rows[current])),
};

const REPEATED = /^(Arrow.*|[jk])$/i;

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key === "p") {
    event.preventDefault();
    printAll();
    return;
  }
  const writes = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (writes) {
    if (event.target.matches(".comment") && ["Enter", "Escape"].includes(event.key)) {
      event.preventDefault();
      goTo(current);
      event.target.blur();
      if (!inLarge()) goTo(current);
    }
    return;
  }
  const action = ACTIONS[event.key] ?? ACTIONS[letterOf(event)];
  // A key that is held down would rate scan after scan unseen.
  if (event.repeat && !REPEATED.test(event.key)) return;
  if (!action || !at("heed").checked || !rows.length || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
});
for (const id of ["show", "order"]) at(id).addEventListener("change", filter);
at("filters").addEventListener("change", filter);
at("search").addEventListener("input", filter);
at("earlier").addEventListener("click", () => { current = first - PAGE; draw(); scrollTo(0, 0); });
at("later").addEventListener("click", () => { current = first + PAGE; draw(); scrollTo(0, 0); });
at("previous").addEventListener("click", () => goTo(current - 1));
at("next").addEventListener("click", () => goTo(current + 1));
at("close").addEventListener("click", () => at("large").close());
at("large").addEventListener("close", () => { draw(); goTo(current); });
at("export").addEventListener("click", download);
at("print-all").addEventListener("click", printAll);
// The browser's own menu does not wait for pictures: what is missing on the sheet is told there.
addEventListener("beforeprint", () => {
  hurry();
  const missing = pictures().filter((image) => !image.naturalWidth).length;
  at("unprinted").textContent = missing ? `${missing} picture(s) had not been loaded yet: print again.` : "";
});
at("import").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => { if (at("file").files.length) takeFile(at("file").files[0]).then(() => { at("file").value = ""; }); });
addEventListener("storage", (event) => { ratings.readEntry(event.key); draw(); });
VIEWS.forEach(([kind, title]) => {
  const button = make("button", { type: "button", textContent: title });
  button.addEventListener("click", () => { view = kind; showLarge(); });
  at("views").append(button);
});
addFilters();
draw();

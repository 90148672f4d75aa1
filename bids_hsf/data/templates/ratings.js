// Ratings of scans: kept in this browser, an entry a scan and model, and carried from here to there as qc.tsv.
const RATINGS = ["good", "usable", "exclude"];
const COLUMNS = ["scan", "model", "rating", "comment", "rated_at"];
const NONE = "n/a";

const keyOf = (scan, model) => `${scan}\t${model}`;
const scanOf = (key) => key.split("\t")[0];
// Without what a reader of tables would take for the end of a cell, or for quotes around it.
const plain = (text) => text.replace(/\s+/g, " ").replaceAll('"', "'").trim();
// A spreadsheet computes what begins as a formula does, unless an apostrophe stands before it.
const noFormula = (text) => text.replace(/^(?=[=+\-@])/, "'");
const commentOf = (cell) => cell.replace(/^'(?=[=+\-@])/, "");
// To the second, in one form, so that times can be compared; "" for what is none.
const timeOf = (text) => {
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(time) ? "" : `${new Date(time).toISOString().slice(0, 19)}Z`;
};

// Text of a file as spreadsheets write it: UTF-8, UTF-16 behind its mark, or what Windows takes for Western text.
function decoded(bytes) {
  const [first, second] = new Uint8Array(bytes);
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

// Rows of a table whose columns are parted by tabs, semicolons or commas, as the title line has them; each with its line.
function rowsOf(text) {
  const separator = ["\t", ";", ","].find((mark) => text.split("\n", 1)[0].includes(mark)) ?? "\t";
  const rows = [];
  let [cells, cell, quoted, line, began] = [[], "", false, 1, 1];
  const endCell = () => { cells.push(cell.trim()); cell = ""; };
  const endRow = () => {
    endCell();
    if (cells.some((each) => each)) rows.push({ line: began, cells });
    cells = [];
    began = line;
  };
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (letter === "\n") line += 1;
    if (quoted && letter === '"' && text[at + 1] === '"') { cell += letter; at += 1; }
    else if (letter === '"' && (quoted || cell === "")) quoted = !quoted;
    else if (quoted) cell += letter;
    else if (letter === separator) endCell();
    else if (letter === "\n") endRow();
    else cell += letter;
  }
  endRow();
  return rows;
}

class Ratings {
  // `given` are the ratings that the page came with: key to {rating, comment, at}.
  constructor(folder, given) {
    let sum = 5381;
    for (const letter of folder) sum = (sum * 33 + letter.codePointAt(0)) >>> 0;
    this.prefix = `bids-hsf qc ${sum.toString(36)} `;
    this.given = given;
    this.own = new Map();
    this.isKept = true;
    this.read();
  }

  read() {
    try {
      for (let place = 0; place < localStorage.length; place += 1) this.readEntry(localStorage.key(place));
    } catch {
      this.isKept = false;
    }
  }

  readEntry(name) {
    if (!name?.startsWith(this.prefix)) return;
    const key = name.slice(this.prefix.length);
    try {
      const { rating, comment, at } = JSON.parse(localStorage.getItem(name));
      if (!["", ...RATINGS].includes(rating)) throw new Error("no rating");
      this.own.set(key, { rating, comment: String(comment ?? ""), at: String(at ?? "") });
    } catch {
      // It is gone, or something else wrote there.
      this.own.delete(key);
    }
  }

  get(key) {
    return this.own.get(key) ?? this.given.get(key) ?? { rating: "", comment: "", at: "" };
  }

  set(key, rating, comment, at = `${new Date().toISOString().slice(0, 19)}Z`) {
    const entry = { rating, comment, at };
    this.own.set(key, entry);
    try {
      localStorage.setItem(this.prefix + key, JSON.stringify(entry));
    } catch {
      this.isKept = false;
    }
  }

  toTsv() {
    const keys = [...new Set([...this.given.keys(), ...this.own.keys()])].sort();
    const lines = [COLUMNS.join("\t")];
    for (const key of keys) {
      const { rating, comment, at } = this.get(key);
      const isCleared = !rating && !comment;
      if (isCleared && !this.given.has(key)) continue;
      lines.push([key, rating || NONE, noFormula(plain(comment)) || NONE, at || NONE].join("\t"));
    }
    return `${lines.join("\n")}\n`;
  }

  // Scans that somebody said something of, in this browser or in the table, which are none of `known`.
  gone(known) {
    return [...new Set([...this.given.keys(), ...this.own.keys()])].filter((key) => !known.has(key) && this.get(key).rating);
  }

  // The newer one of two ratings stays; one without a model is of the scan by all of them. Returns what became of the
  // lines, or throws what is wrong with the file.
  takeTsv(text, known) {
    if (text.startsWith("PK\u0003")) throw new Error("a workbook: save it as text");
    const [head, ...rows] = rowsOf(text.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n"));
    const names = head?.cells ?? [];
    const missing = ["scan", "rating"].filter((name) => !names.includes(name));
    if (missing.length) throw new Error(`no qc.tsv: it has no column ${missing.join(", ")}`);
    const models = new Map();
    for (const key of known) models.set(scanOf(key), [...(models.get(scanOf(key)) ?? []), key]);
    const told = { taken: 0, older: 0, elsewhere: 0, differ: [], faults: [] };
    for (const { line, cells } of rows) {
      const cell = (name) => {
        const found = cells[names.indexOf(name)] ?? NONE;
        return found.toLowerCase() === NONE ? "" : found;
      };
      const [scan, model, rating] = [cell("scan"), cell("model"), cell("rating").toLowerCase()];
      if (cells.length !== names.length || !scan || (rating && !RATINGS.includes(rating))) {
        told.faults.push(line);
        continue;
      }
      if (!rating && !cell("comment") && !cell("rated_at")) continue; // not rated yet
      const all = model ? [keyOf(scan, model)] : models.get(scan) ?? [keyOf(scan, "")];
      for (const key of all) this.take(key, { rating, comment: commentOf(cell("comment")), at: timeOf(cell("rated_at")) }, told);
      if (!all.some((key) => known.has(key))) told.elsewhere += 1;
    }
    return told;
  }

  take(key, { rating, comment, at }, told) {
    const own = this.get(key);
    const isOlder = timeOf(own.at) > at;
    if (own.rating && rating && own.rating !== rating) told.differ.push({ key, here: own.rating, there: rating, isOlder });
    if (isOlder) {
      told.older += 1;
    } else {
      this.set(key, rating, comment, at);
      told.taken += 1;
    }
  }
}

"use strict";
// Ratings of scans: kept in this browser, an entry a scan and model, and carried from here to there as qc.tsv.
const RATINGS = ["good", "usable", "exclude"];
const COLUMNS = ["scan", "model", "rating", "comment", "rated_at"];
const NONE = "n/a";

const keyOf = (scan, model) => `${scan}\t${model}`;
// Without what a reader of tables would take for the end of a cell, or for quotes around it.
const plain = (text) => text.replace(/\s+/g, " ").replaceAll('"', "'").trim();

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
    const text = localStorage.getItem(name);
    const key = name.slice(this.prefix.length);
    if (text === null) this.own.delete(key);
    else this.own.set(key, JSON.parse(text));
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
      lines.push([key, rating || NONE, plain(comment) || NONE, at || NONE].join("\t"));
    }
    return `${lines.join("\n")}\n`;
  }

  // The newer one of two ratings stays. Returns what became of the lines, or throws what is wrong with the file.
  takeTsv(text, known) {
    const [head, ...lines] = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter((line) => line);
    const names = (head ?? "").split("\t");
    const missing = ["scan", "model", "rating"].filter((name) => !names.includes(name));
    if (missing.length) throw new Error(`no qc.tsv: it has no column ${missing.join(", ")}`);
    const told = { taken: 0, older: 0, elsewhere: 0, faults: [] };
    lines.forEach((line, place) => {
      const cells = line.split("\t");
      const cell = (name) => {
        const found = cells[names.indexOf(name)] ?? NONE;
        return found === NONE ? "" : found;
      };
      const key = keyOf(cell("scan"), cell("model"));
      const rating = cell("rating");
      if (cells.length !== names.length || !cell("scan") || (rating && !RATINGS.includes(rating))) {
        told.faults.push(place + 2);
      } else if (this.get(key).at > (cell("rated_at") || "")) {
        told.older += 1;
      } else {
        this.set(key, rating, cell("comment"), cell("rated_at"));
        told.taken += 1;
        if (!known.has(key)) told.elsewhere += 1;
      }
    });
    return told;
  }
}

"use strict";
// The pages beside this one by key; all else works without.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=text], input[type=search], textarea, select")) return;
  // Capitals are meant as well; where letters are no Latin ones, the key's place on the keyboard tells.
  const letter = event.key.toLowerCase();
  const way = { n: "next", p: "prev" }[/^[\x20-\x7e]$/.test(letter) ? letter : event.code.replace("Key", "").toLowerCase()];
  const link = way && document.querySelector(`.toc a[rel="${way}"]`);
  if (link) link.click();
});

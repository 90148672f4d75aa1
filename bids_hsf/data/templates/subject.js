// The pages beside this one by key; all else works without.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=text], input[type=search], textarea, select")) return;
  const way = { n: "next", p: "prev" }[letterOf(event)];
  const link = way && document.querySelector(`.toc a[rel="${way}"]`);
  if (link) link.click();
});

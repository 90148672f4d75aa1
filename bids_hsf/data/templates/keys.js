"use strict";
// What a key means: capitals too; where letters are no Latin ones, the key's place on the keyboard tells.
function letterOf({ key, code }) {
  const letter = key.toLowerCase();
  return /^[\x20-\x7e]$/.test(letter) ? letter : code.replace(/^(Key|Digit)/, "").toLowerCase();
}

"use strict";
// Shows the types whose name or parameters contain what is typed.
(() => {
  const filter = document.getElementById("filter");
  const types = [...document.querySelectorAll("#types details")];
  filter.addEventListener("input", () => {
    const word = filter.value.trim().toLowerCase();
    for (const type of types) type.hidden = word !== "" && !type.dataset.words.includes(word);
  });
})();

"use strict";
// The filters work without this. It adds a search, a count of what is shown, and keeps the choice in the address.
(() => {
  const units = [...document.querySelectorAll(".unit")];
  const shown = document.getElementById("shown");
  const search = document.querySelector("#search input");
  const texts = units.map((unit) => unit.querySelector("summary").textContent.toLowerCase());
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`);
  document.body.classList.add("scripted");

  const show = () => {
    const state = chosen("state").value;
    const profile = chosen("profile").value;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    units.forEach((unit, at) => {
      const found = words.every((word) => texts[at].includes(word));
      unit.classList.toggle("out", !found);
      const is = (name) => name === "all" || unit.classList.contains(name);
      if (found && is(state) && is(profile)) count += 1;
    });
    shown.textContent = `${count} of ${units.length} shown`;
    const keep = new URLSearchParams({ state, profile, search: search.value });
    history.replaceState(null, "", `#${keep}`);
  };

  const kept = new URLSearchParams(location.hash.slice(1));
  for (const name of ["state", "profile"]) {
    const box = [...document.querySelectorAll(`input[name="${name}"]`)].find((one) => one.value === kept.get(name));
    if (box) box.checked = true;
  }
  search.value = kept.get("search") ?? "";
  document.addEventListener("input", show);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  show();
})();

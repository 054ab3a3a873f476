"use strict";
for (const tools of document.querySelectorAll("form.tools")) {
  const rows = [...document.getElementById(tools.dataset.for).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase() + [...row.querySelectorAll("code[title]")].map((c) => c.title).join(" "));
  const names = rows.map((row) => row.querySelector(".badge").lastChild.textContent);
  const search = tools.querySelector("input");
  const choice = tools.querySelector("select");
  const output = tools.querySelector("output");
  const filter = () => {
    const wanted = search.value.toLowerCase();
    let shown = 0;
    rows.forEach((row, number) => {
      row.hidden = !texts[number].includes(wanted) || (choice.value !== "" && choice.value !== names[number]);
      if (!row.hidden) shown += 1;
    });
    output.textContent = shown === rows.length ? "" : `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
  };
  search.addEventListener("input", filter);
  choice.addEventListener("change", filter);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
}

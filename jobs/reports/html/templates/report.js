"use strict";
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column, numeric) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? (cell.querySelector("code") ?? cell).textContent.trim();
    return numeric ? (text === "" ? -1 : Number(text)) : text;
  };
  heads.forEach((head, column) => {
    if (!head.dataset.type) return;
    const numeric = head.dataset.type === "number";
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numeric;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row, column, numeric), row]);
      rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
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

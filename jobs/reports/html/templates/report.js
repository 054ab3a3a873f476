"use strict";
for (const tools of document.querySelectorAll("form.tools")) {
  const groups = [...tools.parentElement.querySelectorAll("details.group")];
  const rows = [...tools.parentElement.querySelectorAll("details.group tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase() + [...row.querySelectorAll("code[title]")].map((c) => c.title).join(" "));
  const search = tools.querySelector("input");
  const output = tools.querySelector("output");
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    rows.forEach((row, number) => { row.hidden = !texts[number].includes(wanted); });
    for (const group of groups) {
      group.hidden = !group.querySelector("tbody tr:not([hidden])");
      group.open = group.open || wanted !== "";
    }
    const shown = rows.filter((row) => !row.hidden).length;
    output.textContent = shown === rows.length ? "" : `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
  });
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  addEventListener("beforeprint", () => groups.forEach((group) => { group.open = true; }));
}
for (const code of navigator.clipboard ? document.querySelectorAll("code.copy") : []) {
  const button = document.createElement("button");
  button.textContent = "Copy";
  button.addEventListener("click", () => navigator.clipboard.writeText(code.textContent).then(() => { button.textContent = "Copied"; }));
  code.after(button);
}

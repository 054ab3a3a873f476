"use strict";
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((group) => { group.open = true; }));
for (const code of navigator.clipboard ? document.querySelectorAll("code.copy") : []) {
  const button = document.createElement("button");
  button.textContent = "Copy";
  button.addEventListener("click", () => navigator.clipboard.writeText(code.textContent).then(() => { button.textContent = "Copied"; }));
  code.after(button);
}

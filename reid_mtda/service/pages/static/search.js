"use strict";
// The picture chosen is shown at once; purpose and case stay filled in until the browser is closed.

const input = document.getElementById("picture");
const preview = document.getElementById("preview");
const drop = document.getElementById("drop");

function show() {
  const [file] = input.files;
  if (!file) return;
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
}

if (input) {
  input.addEventListener("change", show);
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length) { input.files = event.dataTransfer.files; show(); }
  });
}

for (const field of document.querySelectorAll("[data-keep]")) {
  const key = `keep-${field.name}`;
  field.value ||= sessionStorage.getItem(key) || "";
  field.addEventListener("change", () => sessionStorage.setItem(key, field.value));
}

"use strict";
// Masks and zones drawn over a camera's newest picture; the text area holds what is saved.

const editor = document.querySelector(".editor");
const picture = editor.querySelector(".picture");
const image = picture.querySelector("img");
const drawing = picture.querySelector("svg");
const corners = picture.querySelector(".corners");
const list = document.getElementById("list");
const text = document.getElementById("regions");
const SVG = "http://www.w3.org/2000/svg";

let areas = [];
let chosen = -1;
try { areas = JSON.parse(text.value); } catch { /* it stays as text, to be mended there */ }
if (areas.length) chosen = 0;

const share = (value) => Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000;
const title = (area) => area.kind === "mask" ? `Mask ${areas.filter((one) => one.kind === "mask").indexOf(area) + 1}` : `Zone ${area.name}`;

function keep() {
  text.value = JSON.stringify(areas);
}

function draw() {
  drawing.replaceChildren(...areas.map((area, number) => {
    const shape = document.createElementNS(SVG, "polygon");
    shape.setAttribute("points", area.corners.map(([x, y]) => `${x * 100},${y * 100}`).join(" "));
    shape.setAttribute("class", `${area.kind}${number === chosen ? " chosen" : ""}`);
    shape.addEventListener("pointerdown", () => choose(number));
    return shape;
  }));
  keep();
}

// One button a corner of the chosen area, so that keyboards and screen readers reach them.
function handles(focus = -1) {
  const area = areas[chosen];
  corners.replaceChildren(...(area ? area.corners : []).map((corner, number) => {
    const handle = document.createElement("button");
    handle.type = "button";
    handle.className = "corner";
    place(handle, corner, number);
    handle.addEventListener("keydown", (event) => typed(event, number, handle));
    handle.addEventListener("pointerdown", (event) => drag(event, number, handle));
    return handle;
  }));
  if (focus >= 0) corners.children[focus]?.focus();
}

function place(handle, [x, y], number) {
  handle.style.left = `${x * 100}%`;
  handle.style.top = `${y * 100}%`;
  handle.setAttribute("aria-label", `Corner ${number + 1}: ${Math.round(x * 100)} % from the left, ${Math.round(y * 100)} % from the top`);
}

function move(number, handle, x, y) {
  const corner = [share(x), share(y)];
  areas[chosen].corners[number] = corner;
  place(handle, corner, number);
  draw();
}

function typed(event, number, handle) {
  const step = event.shiftKey ? 0.05 : 0.005;
  const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [0, 0];
  const [x, y] = areas[chosen].corners[number];
  if (dx || dy) move(number, handle, x + dx, y + dy);
  else if (event.key === "Delete" || event.key === "Backspace") drop(number);
  else if (event.key === "Insert" || event.key === "+") add(number);
  else return;
  event.preventDefault();
}

function drag(event, number, handle) {
  event.preventDefault();
  handle.focus();
  handle.setPointerCapture(event.pointerId);
  const frame = picture.getBoundingClientRect();
  const follow = (moved) => move(number, handle, (moved.clientX - frame.left) / frame.width, (moved.clientY - frame.top) / frame.height);
  handle.addEventListener("pointermove", follow);
  const end = () => handle.removeEventListener("pointermove", follow);
  handle.addEventListener("pointerup", end, { once: true });
  handle.addEventListener("pointercancel", end, { once: true });
}

function drop(number) {
  if (areas[chosen].corners.length <= 3) return;
  areas[chosen].corners.splice(number, 1);
  draw();
  handles(Math.min(number, areas[chosen].corners.length - 1));
}

function add(number) {
  const all = areas[chosen].corners;
  const [x, y] = all[number];
  const [u, v] = all[(number + 1) % all.length];
  all.splice(number + 1, 0, [share((x + u) / 2), share((y + v) / 2)]);
  draw();
  handles(number + 1);
}

function choose(number) {
  chosen = number;
  draw();
  handles();
  rows();
}

function rows() {
  document.getElementById("empty").hidden = areas.length > 0;
  list.replaceChildren(...areas.map((area, number) => {
    const row = document.createElement("li");
    const pick = document.createElement("button");
    pick.type = "button";
    pick.textContent = title(area);
    pick.setAttribute("aria-pressed", String(number === chosen));
    pick.addEventListener("click", () => { choose(number); list.children[number].querySelector("button").focus(); });
    row.append(pick);
    if (area.kind === "zone") {
      const name = document.createElement("input");
      name.value = area.name;
      name.maxLength = 64;
      name.pattern = "[a-z0-9][a-z0-9_-]*";
      name.setAttribute("aria-label", `Name of zone ${number + 1}, a-z 0-9 _ -`);
      name.addEventListener("input", () => { area.name = name.value; pick.textContent = title(area); keep(); });
      row.append(name);
    }
    const more = document.createElement("button");
    more.type = "button";
    more.textContent = "Add a corner";
    more.setAttribute("aria-label", `Add a corner to ${title(area)}`);
    more.addEventListener("click", () => { choose(number); add(area.corners.length - 1); });
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "Remove";
    remove.setAttribute("aria-label", `Remove ${title(area)}`);
    remove.addEventListener("click", () => { areas.splice(number, 1); choose(Math.min(number, areas.length - 1)); });
    row.append(more, remove);
    return row;
  }));
}

for (const button of editor.querySelectorAll("[data-add]")) {
  button.addEventListener("click", () => {
    const kind = button.dataset.add;
    let count = 1;
    while (areas.some((area) => area.name === `zone${count}`)) count += 1;
    areas.push({ kind, name: kind === "zone" ? `zone${count}` : "", corners: [[0.35, 0.35], [0.65, 0.35], [0.65, 0.65], [0.35, 0.65]] });
    choose(areas.length - 1);
    corners.children[0].focus();
  });
}
text.addEventListener("change", () => {
  try { areas = JSON.parse(text.value); } catch { return; }
  choose(Math.min(Math.max(chosen, 0), areas.length - 1));
});

function fit() {
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width && height) picture.style.setProperty("--shape", `${width / height}`);
}
image.addEventListener("load", fit);
if (image.complete) fit();
draw();
handles();
rows();

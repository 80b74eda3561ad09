"use strict";
// Live pictures and what happens: each camera is asked for its newest picture while it is on screen.

const csrf = document.querySelector('meta[name="csrf"]').content;
const grid = document.querySelector(".grid");
const maySearch = grid.dataset.maySearch === "1";

class Camera {
  constructor(figure) {
    this.name = figure.dataset.camera;
    this.figure = figure;
    this.image = figure.querySelector("img");
    this.people = figure.querySelector(".people");
    this.wait = Math.max(1000 / Number(figure.dataset.fps), 250);
    this.visible = false;
    this.busy = false;
    this.taken = "";
  }

  async refresh() {
    if (!this.visible || this.busy || document.hidden) return;
    this.busy = true;
    try {
      const answer = await fetch(`/api/v1/cameras/${this.name}/picture`);
      if (answer.status === 401) { location.href = "/login"; return; }
      if (!answer.ok) return;
      const taken = answer.headers.get("X-Taken");
      const people = JSON.parse(answer.headers.get("X-People") || "[]");
      const blob = await answer.blob();
      if (taken === this.taken) return;
      this.taken = taken;
      const old = this.image.src;
      this.image.src = URL.createObjectURL(blob);
      if (old.startsWith("blob:")) URL.revokeObjectURL(old);
      this.draw(people);
    } catch { /* the next turn tries again */ } finally { this.busy = false; }
  }

  draw(people) {
    const there = new Map([...this.people.children].map((box) => [Number(box.dataset.track), box]));
    for (const { track_id: track, box: [x0, y0, x1, y1] } of people) {
      let box = there.get(track);
      there.delete(track);
      if (!box) {
        box = document.createElement(maySearch ? "button" : "span");
        box.dataset.track = track;
        box.className = "person";
        if (maySearch) {
          box.type = "button";
          box.setAttribute("aria-label", `Search for this person before ${this.name}`);
          box.addEventListener("click", () => this.pick(track, box));
        }
        this.people.append(box);
      }
      Object.assign(box.style, { left: `${x0 * 100}%`, top: `${y0 * 100}%`, width: `${(x1 - x0) * 100}%`, height: `${(y1 - y0) * 100}%` });
    }
    for (const box of there.values()) if (box !== document.activeElement) box.remove(); else box.classList.add("left");
  }

  async pick(track, box) {
    box.disabled = true;
    const answer = await fetch(`/api/v1/cameras/${this.name}/picks`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify({ track_id: track }),
    });
    if (answer.ok) location.href = `/search?pick=${encodeURIComponent((await answer.json()).pick_id)}`;
    else box.remove();
  }
}

const cameras = [...document.querySelectorAll(".camera")].map((figure) => new Camera(figure));
const watcher = new IntersectionObserver((seen) => {
  for (const one of seen) cameras.find((camera) => camera.figure === one.target).visible = one.isIntersecting;
});
for (const camera of cameras) {
  watcher.observe(camera.figure);
  setInterval(() => camera.refresh(), camera.wait);
}

// Sightings and states as they happen.
const strip = document.getElementById("strip");
const source = new EventSource("/api/v1/events");
source.addEventListener("sighting", (event) => {
  const seen = JSON.parse(event.data);
  document.getElementById("nobody")?.remove();
  const item = document.createElement("li");
  item.className = "tile new";
  const link = document.createElement("a");
  link.href = `/sightings/${seen.sighting_id}`;
  const when = new Date(seen.start_s * 1000).toTimeString().slice(0, 8);
  link.setAttribute("aria-label", `${seen.camera}, ${when}`);
  const image = document.createElement("img");
  image.src = `/api/v1/sightings/${seen.sighting_id}/thumbnail`;
  image.alt = "";
  const where = document.createElement("span");
  where.className = "where";
  where.textContent = seen.camera;
  const time = document.createElement("span");
  time.className = "when";
  time.textContent = when;
  link.append(image, where, time);
  item.append(link);
  strip.prepend(item);
  while (strip.children.length > 12) strip.lastElementChild.remove();
  const count = document.querySelector(`.camera[data-camera="${seen.camera}"] [data-sightings]`);
  if (count) count.textContent = Number(count.textContent) + 1;
});
const kinds = { running: "ok", connecting: "idle", paused: "idle", ended: "idle" };
source.addEventListener("camera_state", (event) => {
  const told = JSON.parse(event.data);
  const chip = document.querySelector(`.camera[data-camera="${told.camera}"] [data-state]`);
  if (!chip) return;
  chip.textContent = told.state;
  chip.className = `chip ${kinds[told.state] || "bad"}`;
  chip.title = told.message;
});
addEventListener("pagehide", () => source.close());

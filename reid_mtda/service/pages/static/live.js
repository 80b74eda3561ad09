"use strict";
// Live pictures and what happens: each camera is asked for its newest picture while it is on screen.

const csrf = document.querySelector('meta[name="csrf"]').content;
const grid = document.querySelector(".grid");
const notes = document.getElementById("notes");
const maySearch = grid.dataset.maySearch === "1";

// By the site's clock, as all of the page, wherever the browser stands.
let clock;
try {
  clock = new Intl.DateTimeFormat("en-GB", { timeZone: grid.dataset.zone, timeStyle: "medium", hourCycle: "h23" });
} catch { /* a zone that this browser does not know: times then say that they are UTC */ }
function timeOfDay(seconds) {
  const moment = new Date(seconds * 1000);
  return clock ? clock.format(moment) : `${moment.toISOString().slice(11, 19)}Z`;
}

// What is wrong, one line a subject, until it is mended ("").
function note(subject, text, kind = "warn") {
  let line = [...notes.children].find((one) => one.dataset.subject === subject);
  if (!text) { line?.remove(); return; }
  if (!line) {
    line = document.createElement("p");
    line.dataset.subject = subject;
    notes.append(line);
  }
  line.className = `note ${kind}`;
  line.textContent = text;
}

class Camera {
  constructor(figure) {
    this.name = figure.dataset.camera;
    this.figure = figure;
    this.picture = figure.querySelector(".picture");
    this.image = figure.querySelector("img");
    this.image.addEventListener("load", () => this.fit());
    this.people = figure.querySelector(".people");
    this.fps = figure.querySelector(".fps");
    this.wait = Math.max(1000 / Number(figure.dataset.fps), 250);
    this.visible = false;
    this.busy = false;
    this.taken = "";
    this.timer = setInterval(() => this.refresh(), this.wait);
  }

  stop() {
    clearInterval(this.timer);
    if (this.image.src.startsWith("blob:")) URL.revokeObjectURL(this.image.src);
  }

  async refresh() {
    if (!this.visible || this.busy || document.hidden) return;
    this.busy = true;
    try {
      const answer = await fetch(`/api/v1/cameras/${this.name}/picture`);
      if (answer.status === 401) { location.href = "/login"; return; }
      if (!answer.ok) return;
      this.fps.textContent = `${answer.headers.get("X-Fps")} fps`;
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

  fit() {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    if (width && height) this.picture.style.setProperty("--shape", `${width / height}`);
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
    note("pick", "");
    try {
      const answer = await fetch(`/api/v1/cameras/${this.name}/picks`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
        body: JSON.stringify({ track_id: track }),
      });
      const said = await answer.json();
      if (answer.ok) { location.href = `/search?pick=${encodeURIComponent(said.pick_id)}`; return; }
      if (answer.status === 404) box.remove();
      note("pick", `Nobody was picked: ${said.error.message}`, "bad");
    } catch {
      note("pick", "Nobody was picked: the service did not answer; try again", "bad");
    }
    box.disabled = false;
  }
}

const cameras = new Map();
const watcher = new IntersectionObserver((seen) => {
  for (const one of seen) {
    const camera = cameras.get(one.target);
    if (camera) camera.visible = one.isIntersecting;
  }
});
function watch() {
  watcher.disconnect();
  for (const camera of cameras.values()) camera.stop();
  cameras.clear();
  for (const figure of grid.querySelectorAll(".camera")) {
    cameras.set(figure, new Camera(figure));
    watcher.observe(figure);
  }
}
watch();

// Cameras come, go and are started anew: the page is asked for them again, once for all that happen together.
async function renew() {
  try {
    const answer = await fetch("/", { headers: { Accept: "text/html" } });
    if (answer.redirected) { location.href = "/login"; return; }
    if (!answer.ok) throw new Error();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    grid.replaceChildren(...fresh.querySelector(".grid").children);
    document.getElementById("count").textContent = fresh.getElementById("count").textContent;
    watch();
    note("cameras", "");
  } catch {
    note("cameras", "The cameras have changed; reload the page");
  }
}
let renewal = 0;
function renewSoon() {
  clearTimeout(renewal);
  renewal = setTimeout(renew, 300);
}

// Sightings and states as they happen.
const strip = document.getElementById("strip");
const source = new EventSource(`/api/v1/events?after=${grid.dataset.lastEvent}`);
source.addEventListener("sighting", (event) => {
  const seen = JSON.parse(event.data);
  const shown = strip.querySelector(`a[href="/sightings/${seen.sighting_id}"]`); // it happened while the page was made
  shown?.closest("li").remove();
  document.getElementById("nobody")?.remove();
  const item = document.createElement("li");
  item.className = "tile new";
  const link = document.createElement("a");
  link.href = `/sightings/${seen.sighting_id}`;
  const when = timeOfDay(seen.start_s);
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
  if (count && !shown) count.textContent = Number(count.textContent) + 1;
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
for (const kind of ["camera_added", "camera_removed", "camera_changed"]) source.addEventListener(kind, renewSoon);
source.addEventListener("disk", (event) => {
  const told = JSON.parse(event.data);
  note("disk", told.message, told.level === "pictures" ? "ok" : "bad");
});
source.addEventListener("alert", (event) => {
  const told = JSON.parse(event.data);
  note(told.subject, told.message);
});
addEventListener("pagehide", () => source.close());

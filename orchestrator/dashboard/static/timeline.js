// Draws the timeline of a run's workers, and the tables of the same numbers. The server sends single
// attempts, or shares of time for each bucket (timeline_view.py). The view is in the URL:
// step=...&stream=..., last=SECONDS, or begin=...&end=... in milliseconds.
import { paced } from "./paced.js";
import { drawTimeline, hitAt, timeAt } from "./timeline_canvas.js";
import { fillTables, describe, time } from "./timeline_tables.js";

const KEYS = ["step", "stream", "last", "begin", "end"];
const LEAST_MS = 2;
const HINT = "Drag to zoom in. Double-click for the whole run. Click a shard for its step.";
const box = document.getElementById("timeline");
const canvas = box?.querySelector("canvas");
const detail = document.getElementById("timeline-detail");
let answer = null;
let drag = null;
let request = 0;

async function load() {
  const url = new URL(box.dataset.source, location.href);
  const here = new URLSearchParams(location.search);
  for (const key of KEYS) if (here.get(key)) url.searchParams.set(key, here.get(key));
  const ours = ++request;
  let found = null;
  let problem = "the timeline could not be read; trying again at the next change";
  try {
    const got = await fetch(url);
    if (got.ok) found = await got.json(); else if (got.status < 500) problem = (await got.text()).trim();
  } catch { /* the server is away */ }
  if (ours !== request) return; // a newer view was asked for
  const alert = document.getElementById("timeline-problem");
  alert.hidden = found !== null;
  alert.textContent = found === null ? problem : "";
  if (found === null) return;
  answer = found;
  render();
  box.dataset.view = answer.range.join("-");
}

function draw() {
  const here = new URLSearchParams(location.search);
  const focus = here.get("step") ? { stream: here.get("stream") || "train", step: Number(here.get("step")) } : null;
  drawTimeline(canvas, answer, drag, focus);
}

function render() {
  draw();
  fillTables(box, answer, goToStep);
  const select = box.querySelector("select");
  const chosen = new URLSearchParams(location.search).get("stream") || "train";
  if (select.options.length !== answer.streams.length || select.value !== chosen) {
    select.replaceChildren(...answer.streams.map((name) => new Option(name, name, false, name === chosen)));
  }
  const shown = new URLSearchParams(location.search).get("step") || "";
  const input = box.querySelector("input[name=step]");
  if (document.activeElement !== input) input.value = shown;
}

function go(changes) {
  const url = new URL(location.href);
  for (const key of KEYS) url.searchParams.delete(key);
  for (const [key, value] of Object.entries(changes)) url.searchParams.set(key, value);
  url.hash = "";
  history.pushState(null, "", url);
  load();
}

const goToStep = (stream, step) => go({ step, stream });

function goToRange(beginUs, endUs) {
  const begin = Math.max(0, Math.floor(beginUs / 1000));
  go({ begin, end: Math.max(Math.ceil(endUs / 1000), begin + LEAST_MS) });
}

const ACTIONS = {
  whole: () => go({}),
  minute: () => go({ last: 60 }),
  in: (a, b) => goToRange(a + (b - a) / 4, b - (b - a) / 4),
  out: (a, b) => (b - a >= answer.extent ? go({}) : goToRange(a - (b - a) / 2, b + (b - a) / 2)),
  left: (a, b) => goToRange(Math.max(0, a - (b - a) / 2), Math.max(0, a - (b - a) / 2) + (b - a)),
  right: (a, b) => goToRange(a + (b - a) / 2, b + (b - a) / 2),
};

function begin() {
  box.addEventListener("click", (event) => {
    const name = event.target.dataset?.do;
    if (name && answer) ACTIONS[name](...answer.range);
  });
  box.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    if (form.get("step")) goToStep(form.get("stream"), form.get("step"));
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !answer) return;
    drag = { from: event.offsetX, to: event.offsetX };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!answer) return;
    if (drag) {
      drag.to = event.offsetX;
      draw();
      return;
    }
    const hit = hitAt(answer, event.offsetX, event.offsetY);
    canvas.style.cursor = hit ? "pointer" : "crosshair"; // by script: the policy allows it
    detail.textContent = hit ? describe(answer, hit) : `${HINT} Here: ${time(timeAt(canvas, answer, event.offsetX), answer)}.`;
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { from, to } = drag;
    drag = null;
    if (Math.abs(to - from) >= 5) {
      goToRange(...[from, to].map((x) => timeAt(canvas, answer, x)).sort((a, b) => a - b));
      return;
    }
    const hit = hitAt(answer, event.offsetX, event.offsetY);
    if (hit) goToStep(answer.streams[hit[6]], hit[7]);
    else draw();
  });
  canvas.addEventListener("pointercancel", () => { drag = null; if (answer) draw(); });
  canvas.addEventListener("pointerleave", () => { if (!drag) detail.textContent = HINT; });
  canvas.addEventListener("dblclick", () => go({}));
  box.querySelector("details").addEventListener("toggle", () => { if (answer) render(); });
  addEventListener("popstate", load);
  document.addEventListener("metafleet:updated", paced(load));
  document.addEventListener("metafleet:theme", () => { if (answer) render(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (answer) render(); });
  new ResizeObserver(() => { if (answer) draw(); }).observe(canvas.parentElement);
  load();
}

if (box) begin();

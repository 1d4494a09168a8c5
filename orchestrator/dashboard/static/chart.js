// Draws each <figure class="chart"> with uPlot, and a table of the same numbers behind it.
// The figure names its JSON (data-source) and its chart in it (data-chart); see charts.py.
// Dragging over a chart of outer steps zooms all of these charts. The range is in the URL:
// from=...&to=...
/* global uPlot */
import { paced } from "./paced.js";

const SERIES_COLOURS = 8;
const HEIGHT = 220;
const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const charts = new Map();
let answers = new Map();

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const faded = (rgb) => rgb.replace("rgb(", "rgba(").replace(")", ", 0.16)");

export function shown(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "share") return `${(100 * value).toFixed(2)} %`;
  return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(5));
}

function tick(value, unit) {
  if (value === null) return "";
  if (unit === "share") return `${+(100 * value).toFixed(2)} %`;
  return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(0) : String(+value.toPrecision(6));
}

// the data without from and to of the page are the same for all of its charts: fetch them once
function load(source) {
  const url = new URL(source, location.href);
  for (const name of ["from", "to"]) {
    const value = new URLSearchParams(location.search).get(name);
    if (value) url.searchParams.set(name, value);
  }
  if (!answers.has(url.href)) {
    answers.set(url.href, fetch(url).then((answer) => (answer.ok ? answer.json() : Promise.reject(answer.status))));
  }
  return answers.get(url.href);
}

function options(chart, width) {
  const axis = { stroke: colour("faint"), font: "11px system-ui", grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
  const series = [{ label: chart.x_label, value: (u, v) => (v === null ? "–" : v.toLocaleString("en")) }];
  const bands = [];
  const canZoom = chart.x_label === "outer step";
  chart.series.forEach((one, index) => {
    const stroke = colour(`series-${(index % SERIES_COLOURS) + 1}`);
    series.push({
      label: one.name, stroke, width: 1.6, spanGaps: true,
      dash: index >= SERIES_COLOURS ? [6, 3] : undefined,
      points: { show: one.dots, size: 6, fill: stroke },
      value: (u, v) => shown(v, chart.unit),
    });
    for (const name of ["low", "high"]) series.push({ label: `${one.name} ${name}`, class: "band", stroke: "transparent", points: { show: false }, spanGaps: true });
    bands.push({ series: [index * 3 + 3, index * 3 + 2], fill: faded(stroke) });
  });
  return {
    width, height: HEIGHT, series, bands,
    scales: { x: { time: false }, y: { distr: chart.log ? 3 : 1 } },
    axes: [
      { ...axis, values: (u, vs) => vs.map((v) => v.toLocaleString("en")), incrs: WHOLE, size: 26, gap: 4 },
      { ...axis, values: (u, vs) => vs.map((v) => tick(v, chart.unit)), size: 58, gap: 6 },
    ],
    cursor: { sync: { key: chart.x_label, setSeries: false }, points: { size: 7 }, drag: { x: canZoom, setScale: false } },
    legend: { live: true },
    hooks: {
      setSelect: [(u) => zoom(u)],
      setSeries: [(u, index, change) => {
        if (index === null || index % 3 !== 1 || change.show === undefined) return;
        for (const other of [index + 1, index + 2]) u.setSeries(other, { show: change.show });
      }],
    },
  };
}

function zoom(u) {
  if (u.select.width < 5) return;
  const [from, to] = [u.select.left, u.select.left + u.select.width].map((at) => Math.round(u.posToVal(at, "x")));
  u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  setRange(from, Math.max(to, from + 1));
}

function setRange(from, to) {
  const url = new URL(location.href);
  for (const [name, value] of [["from", from], ["to", to]]) {
    if (value === null) url.searchParams.delete(name); else url.searchParams.set(name, value);
  }
  history.pushState(null, "", url);
  followRange();
}

function followRange() {
  const query = new URLSearchParams(location.search);
  for (const name of ["from", "to"]) {
    const input = document.querySelector(`form[aria-label='Range of steps'] input[name="${name}"]`);
    if (input) input.value = query.get(name) || "";
  }
  redraw();
}

function fillTable(figure, chart) {
  const box = figure.querySelector("details .scroll");
  const table = document.createElement("table");
  const caption = table.createCaption();
  caption.className = "unseen";
  caption.textContent = figure.querySelector("figcaption").textContent;
  const head = table.createTHead().insertRow();
  const heading = (text) => { const th = document.createElement("th"); th.scope = "col"; th.className = "num"; th.textContent = text; head.append(th); };
  heading(chart.x_label);
  for (const one of chart.series) {
    heading(one.name);
    if (one.band) heading(one.band);
  }
  const body = table.createTBody();
  chart.x.forEach((x, at) => {
    const row = body.insertRow();
    const cell = (text) => { const td = row.insertCell(); td.className = "num"; td.textContent = text; };
    cell(x.toLocaleString("en"));
    for (const one of chart.series) {
      cell(shown(one.value[at], chart.unit));
      if (one.band) cell(one.low[at] === null ? "–" : `${shown(one.low[at], chart.unit)} to ${shown(one.high[at], chart.unit)}`);
    }
  });
  box.replaceChildren(table);
}

async function draw(figure) {
  const state = charts.get(figure);
  let chart;
  try {
    chart = (await load(figure.dataset.source)).charts[figure.dataset.chart];
  } catch {
    figure.classList.add("failed");
    return;
  }
  figure.classList.remove("failed");
  figure.hidden = !chart || chart.series.length === 0;
  if (figure.hidden) return;
  const plot = figure.querySelector(".plot");
  const names = JSON.stringify([chart.series.map((one) => one.name), chart.log]);
  const data = [chart.x, ...chart.series.flatMap((one) => [one.value, one.low, one.high])];
  if (state.uplot && state.names === names) state.uplot.setData(data);
  else {
    state.uplot?.destroy();
    state.uplot = new uPlot(options(chart, Math.max(plot.clientWidth, 200)), data, plot);
    if (chart.x_label === "outer step") state.uplot.over.addEventListener("dblclick", () => setRange(null, null));
  }
  state.names = names;
  const details = figure.querySelector("details");
  state.fill = () => { if (details.open) fillTable(figure, chart); };
  state.fill();
}

function redraw(withLook = false) {
  answers = new Map();
  const seen = [...charts].filter(([, state]) => state.isSeen);
  if (withLook) for (const [, state] of seen) state.names = "";
  return Promise.all(seen.map(([figure]) => draw(figure)));
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const state = charts.get(target);
    if (isIntersecting && !state.isSeen) { state.isSeen = true; draw(target); }
  }
}, { rootMargin: "200px" });
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const { uplot } = charts.get(target.closest("figure"));
    if (uplot && target.clientWidth > 0) uplot.setSize({ width: target.clientWidth, height: HEIGHT });
  }
});

function begin(figure) {
  if (charts.has(figure)) return;
  charts.set(figure, { uplot: null, names: "", isSeen: false, fill: () => {} });
  figure.querySelector("details").addEventListener("toggle", () => charts.get(figure).fill());
  seen.observe(figure);
  sizes.observe(figure.querySelector(".plot"));
}

const beginAll = () => document.querySelectorAll("figure.chart").forEach(begin);
beginAll();
const follow = paced(() => redraw());
document.addEventListener("metafleet:updated", () => { beginAll(); follow(); });
document.addEventListener("metafleet:theme", () => redraw(true));
addEventListener("popstate", followRange);
document.querySelector("form[aria-label='Range of steps']")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  setRange(form.get("from") || null, form.get("to") || null);
});
document.querySelector("form[aria-label='Range of steps']")?.addEventListener("reset", () => setRange(null, null));

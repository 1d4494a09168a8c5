// The canvas of the timeline: lanes of workers, with a ruler of times and steps above them.

const LABEL = 15;
const BAR = 16;
const WAIT = 4;
const LANE = LABEL + BAR + WAIT + 8;
const TOP = 34;
const LEAST_STEP_PX = 34;
const TICKS = [1, 2, 5];
const NAMES = ["series-1", "series-3", "series-2", "bad"];
let boxes = []; // of the attempts drawn last, for the pointer

function colours(canvas) {
  const probe = document.createElement("span");
  canvas.parentElement.append(probe);
  const found = {};
  for (const name of [...NAMES, "series-8", "line", "text", "faint", "inset", "accent", "grid"]) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

export function tickTexts(begin, end, most) {
  const raw = Math.max((end - begin) / Math.max(most, 1), 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  let width = (TICKS.find((digit) => digit * power >= raw) || 10) * power;
  if (raw > 20e6) width = [30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800].map((s) => s * 1e6).find((w) => w >= raw) || width;
  const found = [];
  for (let at = Math.ceil(begin / width) * width; at <= end; at += width) found.push([at, tickText(at, width)]);
  return found;
}

function tickText(us, width) {
  if (width < 1e6) return `${(us / 1e6).toFixed(width < 1e3 ? 4 : width < 1e5 ? (width < 1e4 ? 3 : 2) : 1)} s`;
  const s = Math.round(us / 1e6);
  if (s < 120 && width < 60e6) return `${s} s`;
  const parts = [Math.floor(s / 3600), Math.floor(s / 60) % 60, s % 60].map((n) => String(n).padStart(2, "0"));
  return parts[0] === "00" ? parts.slice(1).join(":") : parts.join(":");
}

const scale = (canvas, answer) => {
  const [begin, end] = answer.range;
  return (us) => ((us - begin) / (end - begin)) * canvas.clientWidth;
};

export function timeAt(canvas, answer, x) {
  const [begin, end] = answer.range;
  return begin + (Math.min(Math.max(x, 0), canvas.clientWidth) / canvas.clientWidth) * (end - begin);
}

export function hitAt(answer, x, y) {
  for (let i = boxes.length - 1; i >= 0; i -= 1) {
    const [left, top, width, span] = boxes[i];
    if (x >= left - 1 && x <= left + width + 1 && y >= top && y <= top + BAR) return span;
  }
  return null;
}

// a step in focus is drawn in full strength, and others are faded
export function drawTimeline(canvas, answer, drag, focus) {
  const width = canvas.parentElement.clientWidth;
  const height = TOP + Math.max(answer.lanes.length, 1) * LANE;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const paint = colours(canvas);
  const x = scale(canvas, answer);
  drawRuler(pen, answer, x, width, height, paint);
  boxes = [];
  answer.lanes.forEach((lane, index) => {
    const top = TOP + index * LANE;
    pen.fillStyle = paint.inset;
    pen.fillRect(0, top + LABEL, width, BAR);
  });
  if (answer.spans) for (const span of answer.spans) drawSpan(pen, answer, span, x, paint, focus);
  else answer.shares.forEach((cells, lane) => drawShares(pen, cells, TOP + lane * LANE + LABEL, width, paint));
  answer.lanes.forEach((lane, index) => drawLabel(pen, lane, TOP + index * LANE, width, paint));
  if (drag) {
    pen.globalAlpha = 0.2;
    pen.fillStyle = paint.accent;
    pen.fillRect(Math.min(drag.from, drag.to), 0, Math.abs(drag.to - drag.from), height);
    pen.globalAlpha = 1;
  }
}

function drawRuler(pen, answer, x, width, height, paint) {
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "top";
  for (const [at, text] of tickTexts(...answer.range, Math.floor(width / 90))) {
    pen.fillStyle = paint.grid;
    pen.fillRect(Math.round(x(at)), 14, 1, height - 14);
    const wide = pen.measureText(text).width;
    pen.fillStyle = paint.faint;
    pen.fillText(text, Math.min(Math.max(x(at) - wide / 2, 0), width - wide), 0);
  }
  let free = -1;
  for (const step of answer.steps.shown) {
    const [left, right] = [Math.max(x(step.begin), 0), Math.min(x(step.end), width)];
    pen.fillStyle = paint.line;
    pen.fillRect(left, 17, Math.max(right - left - 1, 1), 3);
    const text = step.stream === "train" ? `${step.step}` : `${step.stream} ${step.step}`;
    if (left < free || right - left < Math.max(LEAST_STEP_PX, pen.measureText(text).width + 4)) continue;
    pen.fillStyle = paint.faint;
    pen.fillText(text, left, 22);
    free = right;
  }
}

function drawLabel(pen, lane, top, width, paint) {
  const figures = lane.is_known ? `${Math.round(100 * lane.busy)} % busy` : "";
  const wide = pen.measureText(figures).width;
  pen.fillStyle = paint.text;
  pen.fillText(lane.worker, 0, top + 2, width - wide - 8);
  pen.fillStyle = paint.faint;
  pen.fillText(figures, width - wide, top + 2);
}

function drawSpan(pen, answer, span, x, paint, focus) {
  const [lane, kind, sent, start, end, , stream, step, , , isLast] = span;
  const top = TOP + lane * LANE + LABEL;
  const left = x(start);
  const wide = Math.max(x(end) - left - 0.5, 1.5);
  const strength = !focus || (answer.streams[stream] === focus.stream && step === focus.step) ? 1 : 0.3;
  pen.globalAlpha = strength * 0.55;
  pen.fillStyle = paint["series-8"];
  pen.fillRect(x(sent), top + BAR + 1, Math.max(left - x(sent), 0), WAIT);
  pen.globalAlpha = strength;
  pen.fillStyle = paint[NAMES[kind]];
  pen.fillRect(left, top, wide, BAR);
  pen.globalAlpha = 1;
  if (isLast && wide >= 4) {
    pen.strokeStyle = paint.text;
    pen.lineWidth = wide > 6 ? 2 : 1;
    pen.strokeRect(left + 1, top + 1, Math.max(wide - 2, 1), BAR - 2);
  }
  boxes.push([left, top, wide, span]);
}

function drawShares(pen, cells, top, width, paint) {
  const wide = width / cells.length;
  cells.forEach((shares, index) => {
    let bottom = top + BAR;
    NAMES.forEach((name, at) => {
      const tall = Math.min(shares[at], 1) * BAR;
      if (tall <= 0) return;
      // what is rare stays visible
      const shown = at === 0 ? tall : Math.max(tall, 3);
      pen.fillStyle = paint[name];
      bottom = Math.max(bottom - shown, top);
      pen.fillRect(index * wide, bottom, wide + 0.3, Math.min(shown, top + BAR - bottom));
    });
    const waiting = shares[NAMES.length];
    if (waiting > 0) {
      pen.globalAlpha = Math.min(0.15 + waiting / 5, 0.8);
      pen.fillStyle = paint["series-8"];
      pen.fillRect(index * wide, top + BAR + 1, wide + 0.3, WAIT);
      pen.globalAlpha = 1;
    }
  });
}

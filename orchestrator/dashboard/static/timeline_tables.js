// The tables below the timeline, for keyboards and screen readers, and the words for one attempt.

const MOST_ROWS = 500;
const KINDS = ["counted", "counted at a later attempt", "discarded", "failed"];

export function seconds(us) {
  if (us < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(us < 1e7 ? 2 : 1)} s`;
}

export function time(us, answer) {
  return `${new Date((answer.origin + us) / 1000).toISOString().slice(11, 23)} UTC`;
}

export function describe(answer, span) {
  const [lane, kind, sent, start, end, counted, stream, step, shard, attempt, isLast] = span;
  return [
    `${answer.streams[stream]} step ${step}, shard ${shard}, attempt ${attempt} on ${answer.lanes[lane].worker}: ${KINDS[kind]}`,
    `waited ${seconds(start - sent)}`, `computed ${seconds(end - start)}`, `returned after ${seconds(counted - end)}`,
    isLast ? "set the step's time" : "",
  ].filter(Boolean).join("; ");
}

function table(box, caption, columns, rows) {
  const made = document.createElement("table");
  const title = made.createCaption();
  title.className = "unseen";
  title.textContent = caption;
  const head = made.createTHead().insertRow();
  for (const [text, kind] of columns) {
    const th = document.createElement("th");
    th.scope = "col";
    th.className = kind.replace("code", "");
    th.textContent = text;
    head.append(th);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const tr = body.insertRow();
    row.forEach((value, index) => {
      const td = tr.insertCell();
      td.className = columns[index][1];
      if (value instanceof Node) td.append(value); else td.textContent = value;
    });
  }
  box.replaceChildren(made);
}

export function fillTables(box, answer, goToStep) {
  const find = (name) => box.querySelector(`[data-table="${name}"]`);
  table(find("workers"), "Workers in this view", [
    ["Worker", "code"], ["Device", "medium"], ["Busy", "num"], ["Counted", "num"], ["Mean wait", "num medium"],
    ["Later attempts", "num medium"], ["Discarded", "num"], ["Lost", "num"], ["Straggler of steps", "num medium"],
  ], answer.lanes.map((lane) => [
    lane.worker, lane.device || "–", lane.is_known ? `${(100 * lane.busy).toFixed(1)} %` : "–", lane.counted.toLocaleString("en"),
    seconds(lane.wait_s * 1e6), lane.repeated, lane.in_vain, lane.failed, lane.set_time.toLocaleString("en"),
  ]));
  const link = (row) => {
    const a = document.createElement("a");
    a.href = `?${new URLSearchParams({ step: row.step, stream: row.stream })}`;
    a.textContent = `${row.stream} ${row.step.toLocaleString("en")}`;
    a.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      goToStep(row.stream, row.step);
    });
    return a;
  };
  table(find("steps"), "Slowest steps in this view", [
    ["Step", ""], ["Took", "num"], ["Straggler", "code"], ["Its shard", "num medium"], ["Later than the median shard", "num medium"],
  ], answer.steps.slowest.map((row) => [
    link(row), seconds(row.end - row.begin), row.worker || "unknown worker", row.shard, seconds(row.after),
  ]));
  const details = box.querySelector("details");
  details.hidden = answer.spans === null;
  if (!details.open || answer.spans === null) return;
  const rows = answer.spans.slice(0, MOST_ROWS);
  details.querySelector("summary").textContent = `Table of the attempts in this view${rows.length < answer.spans.length ? ` (the first ${MOST_ROWS} of ${answer.spans.length.toLocaleString("en")}; zoom in for others)` : ""}`;
  table(find("attempts"), "Attempts in this view", [
    ["Step", ""], ["Shard", "num"], ["Attempt", "num"], ["Worker", "code"], ["What became of it", ""], ["Sent", "num"], ["Waited", "num"], ["Computed", "num"], ["Set the time", ""],
  ], rows.map(([lane, kind, sent, start, end, , stream, step, shard, attempt, isLast]) => [
    `${answer.streams[stream]} ${step}`, shard, attempt, answer.lanes[lane].worker, KINDS[kind],
    time(sent, answer), seconds(start - sent), seconds(end - start), isLast ? "yes" : "",
  ]));
}

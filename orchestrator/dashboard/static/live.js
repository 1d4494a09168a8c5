// Keeps the page current. One tab of the browser holds the stream of events, and passes them on to
// the others: browsers allow only six connections to a server.
import { morph } from "./morph.js";

const LEAST_MS = 1000;
const LOCK = "metafleet-events";
const topics = () => document.getElementById("main").dataset.topics.split(" ").filter(Boolean);
let isStale = false;
let isUpdating = false;
let updatedAt = Date.now();
let timer = null;

function tell(event) {
  if (event.kind === "down") {
    document.getElementById("live").hidden = false;
    return;
  }
  document.getElementById("live").hidden = true;
  // "hello" begins a stream, also after an interruption: something may have changed before
  if (event.kind === "hello" || event.topics.some((topic) => topics().includes(topic))) schedule();
}

function schedule() {
  isStale = true;
  if (timer !== null || isUpdating || document.hidden) return;
  timer = setTimeout(update, Math.max(0, updatedAt + LEAST_MS - Date.now()));
}

async function update() {
  timer = null;
  isStale = false;
  isUpdating = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = found.getElementById("main");
    if (answer.redirected) location.reload();
    else if (main && answer.status < 500) {
      for (const id of ["main", "fleet"]) morph(document.getElementById(id), found.getElementById(id));
      document.dispatchEvent(new Event("metafleet:updated"));
    }
  } catch { /* the server is away: the stream tells when it is back */ }
  updatedAt = Date.now();
  isUpdating = false;
  if (isStale) schedule();
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && isStale) schedule(); });

function listen(pass) {
  const source = new EventSource("/events");
  source.addEventListener("hello", (event) => pass({ kind: "hello", id: event.data }));
  source.addEventListener("changed", (event) => pass({ kind: "changed", topics: JSON.parse(event.data) }));
  source.addEventListener("error", () => {
    pass({ kind: "down" });
    // the browser gives up after an answer that is no stream, such as one of a proxy
    if (source.readyState === EventSource.CLOSED) setTimeout(() => restart(), 2000);
  });
  const restart = () => { source.close(); listen(pass); };
  return source;
}

if (navigator.locks && window.BroadcastChannel) {
  const channel = new BroadcastChannel(LOCK);
  channel.addEventListener("message", (event) => tell(event.data));
  schedule(); // another tab may have had the stream while this page was loading
  navigator.locks.request(LOCK, () => {
    listen((event) => { channel.postMessage(event); tell(event); });
    return new Promise(() => {}); // until this tab is closed; then another tab listens
  });
} else {
  // without HTTPS there are no locks: each visible tab has a stream of its own
  let source = null;
  const follow = () => {
    if (document.hidden && source) { source.close(); source = null; }
    else if (!document.hidden && !source) source = listen(tell);
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}

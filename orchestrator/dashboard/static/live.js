// Keeps the page current. One tab of the browser holds the stream of events, and passes them on to
// the others: browsers allow only six connections to a server.
import { morph } from "./morph.js";
import { paced } from "./paced.js";

const LOCK = "metafleet-events";
const topics = () => document.getElementById("main").dataset.topics.split(" ").filter(Boolean);
function tell(event) {
  if (event.kind === "down") {
    document.getElementById("live").hidden = false;
    return;
  }
  document.getElementById("live").hidden = true;
  // "hello" begins a stream, also after an interruption: something may have changed before
  if (event.kind === "hello" || event.topics.some((topic) => topics().includes(topic))) schedule();
}

async function update() {
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = found.getElementById("main");
    if (answer.redirected) location.reload(); // to the sign-in
    else if (main && answer.status < 500) {
      for (const id of ["main", "fleet"]) morph(document.getElementById(id), found.getElementById(id));
      document.dispatchEvent(new Event("metafleet:updated"));
    }
  } catch { /* the server is away: the stream tells when it is back */ }
}

const schedule = paced(update);

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

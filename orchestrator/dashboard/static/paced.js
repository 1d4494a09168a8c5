// Repeats work when asked, but so seldom that it takes at most a hundredth of the time: what is
// slow, such as a page of a busy server, is repeated less often. The last request is never dropped.

const SHARE = 100;
const LEAST_MS = 1000;
const MOST_MS = 10000;

export function paced(work) {
  let timer = null;
  let isWanted = false;
  let isWorking = false;
  let nextAt = Date.now() + LEAST_MS;

  async function run() {
    timer = null;
    isWanted = false;
    isWorking = true;
    const started = Date.now();
    try {
      await work();
    } finally {
      const tookMs = Date.now() - started;
      nextAt = Date.now() + Math.min(Math.max(SHARE * tookMs, LEAST_MS), MOST_MS);
      isWorking = false;
      if (isWanted) ask();
    }
  }

  // a hidden tab waits until it is visible again
  function ask() {
    isWanted = true;
    if (timer !== null || isWorking || document.hidden) return;
    timer = setTimeout(run, Math.max(0, nextAt - Date.now()));
  }

  document.addEventListener("visibilitychange", () => { if (isWanted) ask(); });
  return ask;
}

// Fetches the drawn episode, and the counts of classes for as long as there are more to come.
const AGAIN_MS = 1500;

async function part(address) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  const found = new DOMParser().parseFromString(await answer.text(), "text/html");
  return found.querySelector(".part-of-page") || failed(found.querySelector("[role=alert]")?.textContent);
}

function failed(text) {
  const problem = document.createElement("p");
  problem.className = "problem";
  problem.setAttribute("role", "alert");
  problem.textContent = text || "the dashboard did not answer; reload the page";
  return problem;
}

async function fill(place, address) {
  let found;
  try { found = await part(address); } catch { found = failed(); }
  place.replaceChildren(document.adoptNode(found));
  place.removeAttribute("aria-busy");
  return found;
}

document.getElementById("count-classes")?.addEventListener("click", async (event) => {
  event.target.disabled = true;
  const place = document.getElementById("class-results");
  while ((await fill(place, place.dataset.again)).hasAttribute("data-unfinished")) {
    await new Promise((done) => { setTimeout(done, AGAIN_MS); });
  }
});

const drawn = document.getElementById("drawn-episode");
if (drawn) {
  await fill(drawn, drawn.dataset.part);
  drawn.removeAttribute("role");
}

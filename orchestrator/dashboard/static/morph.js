// Changes an element into another one in place, so that focus, scrolling and open details survive.
// Elements with the same id are the same; an element with data-keep is left alone.

const KEPT = { DETAILS: ["open"], INPUT: ["checked", "value"], TEXTAREA: ["value"], DIALOG: ["open"] };

function isSame(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function morphAttributes(from, to) {
  const kept = KEPT[from.nodeName] || [];
  for (const { name, value } of to.attributes) {
    if (!kept.includes(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!kept.includes(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  }
}

export function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.hasAttribute("data-keep")) return;
  morphAttributes(from, to);
  if (from.nodeName === "TEXTAREA") return;
  const byId = new Map([...from.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = wanted.id ? byId.get(wanted.id) : undefined;
    if (known && known !== place && isSame(known, wanted)) {
      from.insertBefore(known, place);
      morph(known, wanted);
    } else if (place && isSame(place, wanted)) {
      const next = place.nextSibling;
      morph(place, wanted);
      place = next;
    } else {
      from.insertBefore(document.importNode(wanted, true), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

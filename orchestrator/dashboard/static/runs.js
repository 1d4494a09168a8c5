// The button that compares needs at least two selected runs.
const form = document.getElementById("compare");
function count() {
  const button = document.getElementById("compare-button");
  if (!button) return;
  const n = document.querySelectorAll('#compare input[name="run"]:checked').length;
  button.disabled = n < 2;
  button.textContent = n < 2 ? "Select runs to compare" : `Compare ${n} selected`;
}
if (form) {
  form.addEventListener("change", count);
  document.addEventListener("metafleet:updated", count);
  count();
}

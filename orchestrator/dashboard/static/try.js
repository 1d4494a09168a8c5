// The page "Try it": files by drop or by input, sent as one line of JSON and then their bytes.
const form = document.getElementById("try");
const classes = document.getElementById("classes");
const answer = document.getElementById("answer");
const busy = document.getElementById("busy");

function show(input) {
  const list = input.closest(".drop").querySelector(".given");
  list.replaceChildren(...[...input.files].map((file) => {
    const item = document.createElement("li");
    item.append(...preview(file), file.name);
    return item;
  }));
}

function preview(file) {
  if (!file.type.startsWith("image/")) return [];
  const picture = document.createElement("img");
  picture.alt = "";
  picture.src = URL.createObjectURL(file);
  return [picture];
}

function watch(box) {
  const input = box.querySelector("input");
  input.addEventListener("change", () => show(input));
  box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    const all = new DataTransfer();
    for (const file of [...input.files, ...event.dataTransfer.files]) all.items.add(file);
    input.files = all.files;
    show(input);
  });
}

function addClass() {
  const number = classes.children.length + 1;
  const added = classes.lastElementChild.cloneNode(true);
  added.querySelector("legend").textContent = `Class ${number}`;
  const name = added.querySelector(".class-name"), files = added.querySelector('[type="file"]');
  name.id = `name-${number}`;
  name.value = `class ${number}`;
  files.id = `files-${number}`;
  files.value = "";
  const [nameLabel, filesLabel] = added.querySelectorAll("label");
  nameLabel.htmlFor = name.id;
  filesLabel.htmlFor = files.id;
  filesLabel.textContent = `Files of class ${number}`;
  added.querySelector(".given").replaceChildren();
  watch(added.querySelector(".drop"));
  classes.append(added);
  document.getElementById("add-class").disabled = number >= Number(form.dataset.mostClasses);
  name.focus();
}

function body(queries) {
  const blocks = [...classes.children].map((one) => ({
    name: one.querySelector(".class-name").value,
    files: [...one.querySelector('[type="file"]').files],
  })).filter((one) => one.files.length);
  const about = (files) => files.map((file) => ({ name: file.name, size: file.size }));
  const line = {
    base: document.getElementById("base").value,
    classes: blocks.map((one) => ({ name: one.name, files: about(one.files) })),
    queries: about(queries),
  };
  return new Blob([`${JSON.stringify(line)}\n`, ...blocks.flatMap((one) => one.files), ...queries]);
}

function say(problem) {
  const line = document.createElement("p");
  line.className = "problem";
  line.setAttribute("role", "alert");
  line.textContent = problem;
  answer.replaceChildren(line);
}

async function send() {
  const queries = [...document.getElementById("queries").files];
  const all = body(queries);
  if (all.size > Number(form.dataset.mostBytes)) {
    say(`the files have ${(all.size / 2 ** 20).toFixed(1)} MiB together; expected at most ${form.dataset.mostBytes / 2 ** 20} MiB`);
    return;
  }
  const found = await fetch("/try", { method: "POST", body: all, headers: { "x-form-token": form.dataset.token } });
  const page = new DOMParser().parseFromString(await found.text(), "text/html");
  answer.replaceChildren(...page.body.childNodes);
  for (const card of answer.querySelectorAll("[data-query]")) {
    const file = queries[Number(card.dataset.query)];
    if (file.type.startsWith("audio/")) {
      const player = document.createElement("audio");
      player.controls = true;
      player.src = URL.createObjectURL(file);
      card.querySelector("h3").after(player);
    } else card.querySelector("h3").after(...preview(file));
  }
  answer.focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = document.getElementById("predict");
  button.disabled = true;
  busy.textContent = "adapting and predicting; this takes some seconds";
  try {
    await send();
  } catch {
    say("the server cannot be reached, or it refused the files; try again");
  } finally {
    button.disabled = false;
    busy.textContent = "";
  }
});
document.getElementById("add-class").addEventListener("click", addClass);
document.querySelectorAll(".drop").forEach(watch);

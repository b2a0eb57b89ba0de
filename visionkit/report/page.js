"use strict";
/* What every report has: numbers, tables, a confusion matrix, a gallery and a viewer. What it is about - detections or
   maps - is the record that `start` is given; see the file of each kind. */
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 24;
const MOST_CONFUSED = 100;
const SVG = "http://www.w3.org/2000/svg";
const state = { className: "", mistake: "", cell: null, shown: PAGE, at: -1, images: [] };
let kind = null;

const byId = (id) => document.getElementById(id);
const number = (value, digits = 4) => (value === null || value === undefined ? "n/a" : value.toFixed(digits));

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function swatch(colour, dashed = false) {
  const made = element("span", { class: "swatch" });
  made.style.borderColor = colour;
  if (dashed) made.style.borderTopStyle = "dashed";
  return made;
}

// --- numbers and classes ---------------------------------------------------------------------------------------------

function showNumbers() {
  document.title = data.title;
  byId("title").textContent = data.title;
  byId("facts").textContent = data.facts.join("\n");
  for (const [name, value] of Object.entries(data.scores)) {
    const interval = data.intervals[name];
    const words = interval ? `${number(interval[0], 3)} to ${number(interval[1], 3)}` : "\u00a0";
    byId("numbers").append(
      element("div", { class: "number" }, element("span", {}, name.replaceAll("_", " ")),
        element("b", {}, number(value)), element("span", {}, words)));
  }
  const has = Object.values(data.intervals).some(Boolean);
  byId("interval-hint").textContent = has
    ? "Below a number: where it would lie for 95 % of other choices of images of this kind." : "";
}

function fillTable(table, heads, rows) {
  table.append(element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head))));
  for (const cells of rows) table.append(element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
}

function showClasses() {
  const rows = Object.entries(data.per_class).map(([name, row]) => [
    element("button", { type: "button", onclick: () => show({ className: name }) }, name), ...kind.cellsOfClass(row).map(String),
  ]);
  fillTable(byId("classes"), ["class", ...kind.headsOfClass], rows);
}

// --- confusion -------------------------------------------------------------------------------------------------------

/* The classes that are most often mistaken, where there are more than a page can hold cells of; in their order. */
function confusedClasses() {
  const classes = data.classes.map((_, label) => label);
  if (classes.length <= MOST_CONFUSED) return classes;
  const wrong = classes.map((label) =>
    data.confusion.reduce((sum, counts, row) => sum + (row === label ? counts.reduce((all, count) => all + count, 0) - counts[label] : counts[label]), 0));
  return classes.sort((a, b) => wrong[b] - wrong[a]).slice(0, MOST_CONFUSED).sort((a, b) => a - b);
}

function showConfusion() {
  const shown = confusedClasses(), classes = data.classes.length;
  const some = shown.length < classes ? ` Of ${classes} classes these are the ${shown.length} that are most often mistaken.` : "";
  byId("confusion-hint").textContent = `${kind.confusionHint} Choose a cell to see its images.${some}`;
  const table = byId("confusion");
  // Behind the classes come background, what was missed, and the like.
  const places = (names) => [...shown, ...[...names.keys()].slice(classes)];
  const rows = places(kind.rows), columns = places(kind.columns);
  table.append(element("tr", {}, element("th", {}, ""),
    ...columns.map((column) => element("th", { scope: "col", title: kind.columns[column] }, kind.columns[column]))));
  rows.forEach((row) => {
    const counts = data.confusion[row];
    const total = Math.max(1, counts.reduce((sum, count) => sum + count, 0));
    const cells = columns.map((column) => {
      const count = counts[column];
      const label = `${cellName(row, column)}: ${count}`;
      const button = element("button", { type: "button", "aria-label": label, title: label, onclick: () => show({ cell: [row, column] }) },
        kind.cellWords(count, total));
      const cell = element("td", { "data-cell": `${row},${column}` }, button);
      const colour = row === column ? "var(--right)" : "var(--wrong)";
      if (count) cell.style.background = `color-mix(in srgb, ${colour} ${Math.round((60 * count) / total)}%, transparent)`;
      return cell;
    });
    table.append(element("tr", {}, element("th", { scope: "row", title: kind.rows[row] }, kind.rows[row]), ...cells));
  });
}

const cellName = (row, column) => `${data.classes[row] ?? "nothing"} called ${data.classes[column] ?? "nothing"}`;

// --- images ----------------------------------------------------------------------------------------------------------

function show(choice) {
  Object.assign(state, { className: "", mistake: "", cell: null }, choice, { shown: PAGE, at: -1 });
  byId("filter-class").value = state.className;
  byId("filter-kind").value = state.mistake;
  showGallery();
  byId("images-heading").scrollIntoView({ block: "start" });
}

function prepareFilters() {
  const ofClass = byId("filter-class"), ofMistake = byId("filter-kind");
  const mistakes = Object.entries(kind.mistakes);
  ofClass.append(element("option", { value: "" }, "all"), ...data.classes.map((name) => element("option", { value: name }, name)));
  ofMistake.append(element("option", { value: "" }, "all"), ...mistakes.map(([name, words]) => element("option", { value: name }, words)));
  ofMistake.closest("label").hidden = !mistakes.length;
  const changed = () => {
    Object.assign(state, { className: ofClass.value, mistake: ofMistake.value, cell: null, shown: PAGE, at: -1 });
    showGallery();
  };
  ofClass.addEventListener("change", changed);
  ofMistake.addEventListener("change", changed);
  byId("filter-clear").addEventListener("click", () => show({}));
  byId("more").addEventListener("click", () => { state.shown += PAGE; showGallery(); });
  for (const [colour, dashed, words] of kind.legend) byId("legend").append(swatch(colour, dashed), words);
}

function showGallery() {
  state.images = kind.chosen(data.images);
  byId("gallery").replaceChildren(...state.images.slice(0, state.shown).map((image, index) =>
    element("button", { class: "card", type: "button", "data-index": index, onclick: () => view(index) },
      element("span", { class: "picture" }, kind.card(image)), element("span", { class: "words" }, kind.words(image)))));
  byId("more").hidden = state.shown >= state.images.length;
  byId("filter-count").textContent = `${state.images.length} of ${data.images.length} images`;
  const cell = byId("filter-cell");
  cell.hidden = !state.cell;
  if (state.cell) cell.textContent = cellName(...state.cell);
  document.querySelectorAll("#confusion td").forEach((td) => td.classList.toggle("chosen", td.dataset.cell === String(state.cell)));
}

function photo(image) {
  const width = image.width || 100, height = image.height || 100;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet", role: "img", "aria-label": image.name });
  if (image.thumbnail) svg.append(drawn("image", { href: image.thumbnail, width, height, preserveAspectRatio: "none" }));
  return svg;
}

function view(index) {
  if (index < 0 || index >= state.images.length) return;
  state.at = index;
  const image = state.images[index];
  const layers = new Set(Object.keys(kind.layers).filter((name) => byId(`show-${name}`).checked));
  byId("viewer-title").textContent = `${image.name} (${index + 1} of ${state.images.length})`;
  byId("viewer-picture").replaceChildren(...kind.pictures(image, layers));
  byId("viewer-list").replaceChildren(...kind.details(image).map(([colour, words, entry]) => {
    const light = (on) => () => entry?.drawn?.classList.toggle("lit", on);
    return element("li", { onmouseenter: light(true), onmouseleave: light(false) }, swatch(colour), words);
  }));
  byId("previous").disabled = index === 0;
  byId("next").disabled = index === state.images.length - 1;
  if (!byId("viewer").open) byId("viewer").showModal();
}

function prepareViewer() {
  byId("previous").addEventListener("click", () => view(state.at - 1));
  byId("next").addEventListener("click", () => view(state.at + 1));
  byId("close").addEventListener("click", () => byId("viewer").close());
  for (const [name, words] of Object.entries(kind.layers)) {
    const box = element("input", { type: "checkbox", id: `show-${name}` });
    box.checked = true;
    box.addEventListener("change", () => view(state.at));
    byId("layers").append(element("label", {}, box, ` ${words}`));
  }
  byId("viewer").addEventListener("close", () => {
    const card = document.querySelector(`.card[data-index="${state.at}"]`);
    if (card) card.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (["SELECT", "INPUT"].includes(document.activeElement?.tagName) && !byId("viewer").open) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    if (byId("viewer").open) { view(state.at + step); event.preventDefault(); return; }
    const cards = [...document.querySelectorAll(".card")];
    const at = cards.indexOf(document.activeElement);
    if (at < 0) return;
    const next = cards[at + step];
    if (next) { next.focus(); event.preventDefault(); }
  });
}

/* Draws the page.
   kind: headsOfClass, cellsOfClass(row): columns of the table of classes;
         rows, columns: names along the confusion matrix; confusionHint; cellWords(count, total of its row);
         mistakes: name -> words, for the filter; legend: [colour, dashed, words];
         chosen(images): those that `state` asks for, in their order; card(image): its small picture; words(image);
         layers: name -> words of what the viewer can hide; pictures(image, layers): its large ones;
         details(image): [colour, words, entry], where an entry that was drawn is found by its `drawn`;
         sections: ids of the sections that it has alone. */
function start(record) {
  kind = record;
  for (const id of kind.sections) byId(id).hidden = false;
  showNumbers();
  showClasses();
  showConfusion();
  prepareFilters();
  prepareViewer();
  showGallery();
}

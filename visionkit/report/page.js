"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 24;
const SVG = "http://www.w3.org/2000/svg";
const MISSED = -1;
const KINDS = {
  class: "wrong class", localisation: "badly placed", both: "wrong class and place", duplicate: "said twice",
  background: "nothing there", missed: "missed",
};
const state = { className: "", kind: "", cell: null, shown: PAGE, at: -1, images: [] };

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

// --- numbers, classes, errors ----------------------------------------------------------------------------------------

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

function showClasses() {
  const heads = ["class", "AP", "AP50", "AR100", "objects", "best score", "F1 there"];
  const table = byId("classes");
  table.append(element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head))));
  for (const [name, row] of Object.entries(data.per_class)) {
    const cells = [number(row.AP), number(row.AP50), number(row.AR100), row.objects, number(row.best, 3), number(row.f1, 3)];
    const choose = element("button", { type: "button", onclick: () => show({ className: name }) }, name);
    table.append(element("tr", {}, element("td", {}, choose), ...cells.map((cell) => element("td", {}, String(cell)))));
  }
}

function showErrors() {
  const most = Math.max(0.001, ...Object.values(data.errors).map((entry) => entry.gives_back ?? 0));
  for (const [kind, entry] of Object.entries(data.errors)) {
    const width = `${(100 * Math.max(0, entry.gives_back ?? 0)) / most}%`;
    const front = element("span", { class: "bar-front" });
    front.style.width = width;
    byId("errors").append(
      element("button", { type: "button", "data-kind": kind, onclick: () => show({ kind }) },
        element("span", {}, KINDS[kind]), element("span", { class: "bar-back" }, front),
        element("span", { class: "amount" }, `${entry.count} times, +${number(entry.gives_back, 3)} AP50`)));
  }
}

function showSlices() {
  const table = byId("slices");
  table.append(element("tr", {}, ...["objects by", "", "AP", "AP50", "objects"].map((head) => element("th", { scope: "col" }, head))));
  for (const [kind, rows] of Object.entries(data.slices)) {
    Object.entries(rows).forEach(([name, row], place) => {
      const cells = [place ? "" : kind, name, number(row.AP), number(row.AP50), row.objects];
      table.append(element("tr", {}, ...cells.map((cell) => element("td", {}, String(cell)))));
    });
  }
}

// --- curves ----------------------------------------------------------------------------------------------------------

const LEFT = 34, TOP = 10, WIDTH = 276, HEIGHT = 196;
const place = (x, y) => `${(LEFT + x * WIDTH).toFixed(1)},${(TOP + (1 - y) * HEIGHT).toFixed(1)}`;

function axes(svg, across, up) {
  svg.replaceChildren();
  for (const at of [0, 0.25, 0.5, 0.75, 1]) {
    const y = TOP + (1 - at) * HEIGHT, x = LEFT + at * WIDTH;
    svg.append(drawn("line", { class: "axis", x1: LEFT, x2: LEFT + WIDTH, y1: y, y2: y }));
    svg.append(drawn("line", { class: "axis", x1: x, x2: x, y1: TOP, y2: TOP + HEIGHT }));
    svg.append(drawn("text", { x: LEFT - 4, y: y + 3, "text-anchor": "end" }, at));
    svg.append(drawn("text", { x, y: TOP + HEIGHT + 12, "text-anchor": "middle" }, at));
  }
  svg.append(drawn("text", { x: LEFT + WIDTH / 2, y: TOP + HEIGHT + 26, "text-anchor": "middle" }, across));
  svg.append(drawn("text", { x: LEFT + 4, y: TOP + 12 }, up));
}

function line(svg, points, colour, name) {
  if (!points.length) return;
  const made = drawn("polyline", { class: "curve", points: points.map(([x, y]) => place(x, y)).join(" "), stroke: colour });
  made.append(drawn("title", {}, name));
  svg.append(made);
}

function showCurves(name) {
  const points = data.curves[name] ?? [];
  const pr = byId("curve-pr"), f1 = byId("curve-f1");
  axes(pr, "recall", "precision");
  line(pr, points.map(([, precision, recall]) => [recall, precision]), "var(--accent)", "precision");
  axes(f1, "score", "");
  line(f1, points.map(([score, precision]) => [score, precision]), "var(--accent)", "precision");
  line(f1, points.map(([score, , recall]) => [score, recall]), "var(--wrong)", "recall");
  line(f1, points.map(([score, , , value]) => [score, value]), "var(--right)", "F1");
  const best = data.per_class[name]?.best;
  if (best !== null && best !== undefined) {
    const [x] = place(best, 0).split(",");
    f1.append(drawn("line", { x1: x, x2: x, y1: TOP, y2: TOP + HEIGHT, stroke: "var(--right)", "stroke-dasharray": "3 3" }));
  }
  byId("curve-hint").textContent = points.length
    ? `Blue: precision, orange: recall, green: F1, best at a score of ${number(best, 3)}.` : "No detection and object to draw a curve from.";
}

function showCalibration() {
  if (!data.calibration || data.calibration.ece === null) {
    byId("calibration-figure").hidden = true;
    return;
  }
  const svg = byId("curve-calibration");
  axes(svg, `score (expected calibration error ${number(data.calibration.ece, 3)})`, "share that is right");
  line(svg, [[0, 0], [1, 1]], "var(--line)", "perfect");
  line(svg, data.calibration.bins.filter((bin) => bin.detections).map((bin) => [bin.mean_score, bin.precision]), "var(--accent)", "measured");
}

function prepareCurves() {
  const select = byId("curve-class");
  for (const name of data.classes) select.append(element("option", { value: name }, name));
  select.addEventListener("change", () => showCurves(select.value));
  if (data.classes.length) showCurves(data.classes[0]);
  showCalibration();
}

// --- confusion -------------------------------------------------------------------------------------------------------

function showConfusion() {
  byId("confusion-hint").textContent =
    `Rows are what is there, columns what was said with a score of ${data.shown_score} or more, matched at IoU 0.5. ` +
    "Choose a cell to see its images.";
  const table = byId("confusion");
  table.append(element("tr", {}, element("th", {}, ""),
    ...[...data.classes, "missed"].map((name) => element("th", { scope: "col", title: name }, name))));
  data.confusion.forEach((counts, row) => {
    const total = Math.max(1, counts.reduce((sum, count) => sum + count, 0));
    const cells = counts.map((count, column) => {
      const label = `${nameOf(row, "nothing")} called ${nameOf(column, "nothing")}: ${count}`;
      const button = element("button", { type: "button", "aria-label": label, onclick: () => show({ cell: [row, column] }) }, String(count));
      const cell = element("td", { "data-cell": `${row},${column}` }, button);
      const colour = row === column ? "var(--right)" : "var(--wrong)";
      if (count) cell.style.background = `color-mix(in srgb, ${colour} ${Math.round((60 * count) / total)}%, transparent)`;
      return cell;
    });
    table.append(element("tr", {}, element("th", { scope: "row", title: nameOf(row, "background") }, nameOf(row, "background")), ...cells));
  });
}

const nameOf = (index, otherwise) => (index === data.classes.length || index < 0 ? otherwise : data.classes[index]);

// --- images ----------------------------------------------------------------------------------------------------------

function isShown(image) {
  const label = state.className === "" ? null : data.classes.indexOf(state.className);
  const ofClass = (entry) => label === null || entry.label === label;
  if (state.cell) {
    const [truth, said] = state.cell, none = data.classes.length;
    if (truth === none) return image.found.some((entry) => entry.meant === MISSED && entry.label === said);
    return image.objects.some((entry) => entry.verdict !== "crowd" && entry.label === truth && entry.said === (said === none ? MISSED : said));
  }
  if (state.kind) {
    const wrong = [...image.objects, ...image.found].filter((entry) => entry.verdict === state.kind);
    return wrong.some(ofClass);
  }
  return label === null || image.objects.some(ofClass) || image.found.some(ofClass);
}

function show(choice) {
  Object.assign(state, { className: "", kind: "", cell: null }, choice, { shown: PAGE, at: -1 });
  byId("filter-class").value = state.className;
  byId("filter-kind").value = state.kind;
  showGallery();
  byId("images-heading").scrollIntoView({ block: "start" });
}

function prepareFilters() {
  const ofClass = byId("filter-class"), ofKind = byId("filter-kind");
  ofClass.append(element("option", { value: "" }, "all"), ...data.classes.map((name) => element("option", { value: name }, name)));
  ofKind.append(element("option", { value: "" }, "all"), ...Object.keys(data.errors).map((kind) => element("option", { value: kind }, KINDS[kind])));
  const changed = () => {
    Object.assign(state, { className: ofClass.value, kind: ofKind.value, cell: null, shown: PAGE, at: -1 });
    showGallery();
  };
  ofClass.addEventListener("change", changed);
  ofKind.addEventListener("change", changed);
  byId("filter-clear").addEventListener("click", () => show({}));
  byId("more").addEventListener("click", () => { state.shown += PAGE; showGallery(); });
  const legend = byId("legend");
  for (const [name, words] of [["truth", "object that was found"], ["missed", "object that was not"], ["right", "right"], ["wrong", "wrong"], ["crowd", "crowd, ignored"]]) {
    const swatch = element("span", { class: "swatch" });
    swatch.style.borderColor = `var(--${name === "crowd" ? "soft" : name})`;
    if (name === "missed" || name === "crowd") swatch.style.borderTopStyle = "dashed";
    legend.append(swatch, words);
  }
}

const classOfObject = (entry) => (entry.verdict === "crowd" ? "crowd" : entry.verdict === "right" ? "truth" : "missed");
const classOfFound = (entry) => (entry.verdict === "right" ? "right" : entry.verdict === "ignored" ? "crowd" : "wrong");

function picture(image, withTruth = true, withFound = true) {
  const width = image.width || 100, height = image.height || 100;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet", role: "img", "aria-label": image.name });
  if (image.thumbnail) svg.append(drawn("image", { href: image.thumbnail, width, height, preserveAspectRatio: "none" }));
  const draw = (entry, kind) => {
    const [x, y, w, h] = entry.box;
    if (entry.path) svg.append(drawn("path", { class: `mask ${kind}`, d: entry.path, "fill-rule": "evenodd" }));
    const box = drawn("rect", { class: `box ${kind}`, x, y, width: w, height: h });
    box.append(drawn("title", {}, describe(entry)));
    svg.append(box);
  };
  if (withTruth) image.objects.forEach((entry) => draw(entry, classOfObject(entry)));
  if (withFound) image.found.forEach((entry) => draw(entry, classOfFound(entry)));
  return svg;
}

function describe(entry) {
  const name = data.classes[entry.label];
  const verdict = KINDS[entry.verdict] ?? entry.verdict;
  return entry.score === undefined ? `${name}: ${entry.verdict === "right" ? "found" : verdict}` : `${name} ${entry.score.toFixed(2)}: ${verdict}`;
}

function showGallery() {
  state.images = data.images.filter(isShown);
  const shown = state.images.slice(0, state.shown);
  byId("gallery").replaceChildren(...shown.map((image, index) => {
    const wrong = image.found.filter((entry) => classOfFound(entry) === "wrong").length;
    const missed = image.objects.filter((entry) => classOfObject(entry) === "missed").length;
    return element("button", { class: "card", type: "button", "data-index": index, onclick: () => view(index) },
      element("span", { class: "picture" }, picture(image)),
      element("span", { class: "words" }, `${wrong} wrong, ${missed} not found: ${image.name}`));
  }));
  byId("more").hidden = state.shown >= state.images.length;
  byId("filter-count").textContent = `${state.images.length} of ${data.images.length} images`;
  const cell = byId("filter-cell");
  cell.hidden = !state.cell;
  if (state.cell) cell.textContent = `${nameOf(state.cell[0], "nothing")} called ${nameOf(state.cell[1], "nothing")}`;
  document.querySelectorAll("#confusion td").forEach((td) => td.classList.toggle("chosen", td.dataset.cell === String(state.cell)));
}

function view(index) {
  if (index < 0 || index >= state.images.length) return;
  state.at = index;
  const image = state.images[index];
  byId("viewer-title").textContent = `${image.name} (${index + 1} of ${state.images.length})`;
  byId("viewer-picture").replaceChildren(picture(image, byId("show-truth").checked, byId("show-found").checked));
  const items = [...image.found.map((entry) => [entry, classOfFound(entry)]), ...image.objects.filter((entry) => classOfObject(entry) === "missed").map((entry) => [entry, "missed"])];
  byId("viewer-list").replaceChildren(...items.map(([entry, kind]) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.borderColor = `var(--${kind === "crowd" ? "soft" : kind})`;
    return element("li", {}, swatch, describe(entry));
  }));
  byId("previous").disabled = index === 0;
  byId("next").disabled = index === state.images.length - 1;
  if (!byId("viewer").open) byId("viewer").showModal();
}

function prepareViewer() {
  byId("previous").addEventListener("click", () => view(state.at - 1));
  byId("next").addEventListener("click", () => view(state.at + 1));
  byId("close").addEventListener("click", () => byId("viewer").close());
  for (const id of ["show-truth", "show-found"]) byId(id).addEventListener("change", () => view(state.at));
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

showNumbers();
showClasses();
showErrors();
showSlices();
prepareCurves();
showConfusion();
prepareFilters();
prepareViewer();
showGallery();

/* A report on detections: boxes, or masks of objects. */
const MISSED = -1;
const KINDS = {
  class: "wrong class", localisation: "badly placed", both: "wrong class and place", duplicate: "said twice",
  background: "nothing there", missed: "missed",
};
const COLOURS = { truth: "var(--truth)", missed: "var(--missed)", right: "var(--right)", wrong: "var(--wrong)", crowd: "var(--soft)" };

// --- errors and slices -----------------------------------------------------------------------------------------------

function showErrors() {
  byId("errors-hint").textContent += ` Mistakes of any score are counted; those of ${data.shown_score} or more are shown.`;
  const most = Math.max(0.001, ...Object.values(data.errors).map((entry) => entry.gives_back ?? 0));
  for (const [mistake, entry] of Object.entries(data.errors)) {
    const width = `${(100 * Math.max(0, entry.gives_back ?? 0)) / most}%`;
    const front = element("span", { class: "bar-front" });
    front.style.width = width;
    byId("errors").append(
      element("button", { type: "button", "data-kind": mistake, onclick: () => show({ mistake }) },
        element("span", {}, KINDS[mistake]), element("span", { class: "bar-back" }, front),
        element("span", { class: "amount" }, `${entry.count} times${shownOf(entry)}, ${gain(entry.gives_back)}`)));
  }
}

const gain = (value) => (value === null ? "AP50 not defined" : `${value < 0 ? "" : "+"}${number(value, 3)} AP50`);
const shownOf = (entry) => (entry.shown === entry.count ? "" : ` (${entry.shown} shown)`);

function showSlices() {
  const rows = Object.entries(data.slices).flatMap(([sliced, ofKind]) => Object.entries(ofKind).map(([name, row], place) =>
    [place ? "" : sliced, name, number(row.AP), number(row.AP50), String(row.objects)]));
  fillTable(byId("slices"), ["objects by", "", "AP", "AP50", "objects"], rows);
}

// --- curves ----------------------------------------------------------------------------------------------------------

const LEFT = 34, TOP = 18, WIDTH = 276, HEIGHT = 188;
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
  svg.append(drawn("text", { x: LEFT, y: TOP - 6 }, up));
}

function line(svg, points, colour, name) {
  if (!points.length) return;
  const made = drawn("polyline", { class: "curve", points: points.map(([x, y]) => place(x, y)).join(" "), stroke: colour });
  made.append(drawn("title", {}, name));
  svg.append(made);
  if (points.length === 1) dot(svg, points[0], colour, name);
}

function dot(svg, [x, y], colour, words) {
  const [cx, cy] = place(x, y).split(",");
  const made = drawn("circle", { cx, cy, r: 3.5, fill: colour });
  made.append(drawn("title", {}, words));
  svg.append(made);
}

/* The curves of a class, or with "" of all classes together. */
function showCurves(name) {
  const points = name === "" ? data.pooled.points : data.curves[name] ?? [];
  const pr = byId("curve-pr"), f1 = byId("curve-f1");
  axes(pr, "recall", "precision");
  line(pr, points.map(([, precision, recall]) => [recall, precision]), "var(--accent)", "precision");
  axes(f1, "score", "");
  line(f1, points.map(([score, precision]) => [score, precision]), "var(--accent)", "precision");
  line(f1, points.map(([score, , recall]) => [score, recall]), "var(--wrong)", "recall");
  line(f1, points.map(([score, , , value]) => [score, value]), "var(--right)", "F1");
  const best = name === "" ? data.pooled.best?.score : data.per_class[name]?.best;
  if (best !== null && best !== undefined) {
    const [x] = place(best, 0).split(",");
    f1.append(drawn("line", { x1: x, x2: x, y1: TOP, y2: TOP + HEIGHT, stroke: "var(--right)", "stroke-dasharray": "3 3" }));
  }
  byId("curve-hint").textContent = points.length
    ? `Blue: precision, orange: recall, green: F1, best at a score of ${number(best, 3)}.` : "There is no detection, or no object, to draw a curve from.";
}

function showCalibration() {
  if (!data.calibration || data.calibration.ece === null) {
    byId("calibration-figure").hidden = true;
    return;
  }
  const svg = byId("curve-calibration");
  const off = (found) => `expected calibration error ${number(found.ece, 3)}`;
  axes(svg, `score (${off(data.calibration)})`, "share that is right");
  line(svg, [[0, 0], [1, 1]], "var(--soft)", "perfect");
  reliability(svg, data.calibration, "var(--accent)", "scores");
  if (!data.calibrated) return;
  reliability(svg, data.calibrated, "var(--right)", "confidences");
  byId("calibration-hint").textContent = `Blue: its scores, green: the confidences of its calibration (${off(data.calibrated)}).`;
}

function reliability(svg, found, colour, what) {
  const bins = found.bins.filter((bin) => bin.detections);
  line(svg, bins.map((bin) => [bin.mean_score, bin.precision]), colour, what);
  for (const bin of bins) dot(svg, [bin.mean_score, bin.precision], colour, `${bin.detections} with ${what} around ${number(bin.mean_score, 2)}: ${number(bin.precision, 2)} right`);
}

function prepareCurves() {
  const select = byId("curve-class");
  select.append(element("option", { value: "" }, "all together"));
  for (const name of data.classes) select.append(element("option", { value: name }, name));
  select.addEventListener("change", () => showCurves(select.value));
  showCurves("");
  showCalibration();
}

// --- images ----------------------------------------------------------------------------------------------------------

const roleOfObject = (entry) => (entry.verdict === "crowd" ? "crowd" : entry.verdict === "right" ? "truth" : "missed");
const roleOfFound = (entry) => (entry.verdict === "right" ? "right" : entry.verdict === "ignored" ? "crowd" : "wrong");

function isChosen(image) {
  const label = state.className === "" ? null : data.classes.indexOf(state.className);
  const ofClass = (entry) => label === null || entry.label === label;
  if (state.cell) {
    const [truth, said] = state.cell, none = data.classes.length;
    if (truth === none) return image.found.some((entry) => entry.meant === MISSED && entry.label === said);
    return image.objects.some((entry) => entry.verdict !== "crowd" && entry.label === truth && entry.said === (said === none ? MISSED : said));
  }
  if (state.mistake) {
    const wrong = [...image.objects, ...image.found].filter((entry) => entry.verdict === state.mistake);
    return wrong.some(ofClass);
  }
  return label === null || image.objects.some(ofClass) || image.found.some(ofClass);
}

function picture(image, layers) {
  const svg = photo(image);
  const draw = (entry, role) => {
    const [x, y, w, h] = entry.box;
    if (entry.path) svg.append(drawn("path", { class: `mask ${role}`, d: entry.path, "fill-rule": "evenodd" }));
    const box = drawn("rect", { class: `box ${role}`, x, y, width: w, height: h });
    box.append(drawn("title", {}, describe(entry)));
    svg.append(box);
    entry.drawn = box;
  };
  if (layers.has("truth")) image.objects.forEach((entry) => draw(entry, roleOfObject(entry)));
  if (layers.has("found")) image.found.forEach((entry) => draw(entry, roleOfFound(entry)));
  return svg;
}

function describe(entry) {
  const name = data.classes[entry.label];
  const verdict = KINDS[entry.verdict] ?? entry.verdict;
  return entry.score === undefined ? `${name}: ${entry.verdict === "right" ? "found" : verdict}` : `${name} ${entry.score.toFixed(2)}: ${verdict}`;
}

const missedIn = (image) => image.objects.filter((entry) => roleOfObject(entry) === "missed");

start({
  sections: ["errors-section", "slices-section", "curves-section"],
  headsOfClass: ["AP", "AP50", "AR100", "objects", "best score", "F1 there"],
  cellsOfClass: (row) => [number(row.AP), number(row.AP50), number(row.AR100), row.objects, number(row.best, 3), number(row.f1, 3)],
  rows: [...data.classes, "background"],
  columns: [...data.classes, "missed"],
  confusionHint: `Rows are what is there, columns what was said with a score of ${data.shown_score} or more, matched at IoU 0.5.`,
  cellWords: (count) => (count ? String(count) : ""),
  mistakes: KINDS,
  legend: [
    [COLOURS.truth, false, "object that was found"], [COLOURS.missed, true, "object that was not"], [COLOURS.right, false, "right"],
    [COLOURS.wrong, false, "wrong"], [COLOURS.crowd, true, "crowd, ignored"],
  ],
  chosen: (images) => images.filter(isChosen),
  card: (image) => picture(image, new Set(["truth", "found"])),
  words: (image) => {
    const wrong = image.found.filter((entry) => roleOfFound(entry) === "wrong").length;
    return `${wrong} wrong, ${missedIn(image).length} not found: ${image.name}`;
  },
  layers: { truth: "truth", found: "found" },
  pictures: (image, layers) => [picture(image, layers)],
  details: (image) => [
    ...image.found.map((entry) => [COLOURS[roleOfFound(entry)], describe(entry), entry]),
    ...missedIn(image).map((entry) => [COLOURS.missed, describe(entry), entry]),
  ],
});
showErrors();
showSlices();
prepareCurves();

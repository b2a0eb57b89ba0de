import { covers, paintMask, runLengths } from "./masks.js";

const SVG = "http://www.w3.org/2000/svg";
const LEAST_SCORE = 0.05; // what the server is asked for; the slider chooses among it
const MOST_DETECTIONS = 300;
const MASK_SIDE = 1280; // pixels of the canvas; a larger picture's masks are drawn smaller
const SMALL = 640; // CSS pixels; smaller pictures are shown enlarged to it
const COLUMNS = { detect: ["class", "score", "box, px"], classify: ["class", "score"], segment: ["class", "share"] };

const INVITATION = "Drop, paste or choose a picture";

const state = { model: null, file: null, address: "", unshown: false, result: null, error: "", threshold: 0.25, hidden: new Set(), chosen: null, asking: null };

const byId = (id) => document.getElementById(id);

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

function drawn(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : word.endsWith("s") ? "es" : "s"}`;
const isMap = () => state.result?.task === "segment";
const classOf = (item) => state.model.classes[item.label];

// --- the model and the question --------------------------------------------------------------------------------------

async function meetModel() {
  const answer = await fetch("v1/models");
  state.model = (await answer.json()).models[0];
  const { name, task, classes, image_size: side } = state.model;
  document.title = `${name}, visionkit`;
  byId("title").textContent = name;
  byId("facts").textContent = `${task}, ${plural(classes.length, "class")}, sees pictures at ${side} px: ` + listed(classes.map((each) => each.name));
}

function listed(names, most = 24) {
  return names.slice(0, most).join(", ") + (names.length > most ? `, ${names.length - most} more` : "");
}

/** Show a picture and ask what is in it; a picture that is still being asked about is forgotten. */
async function look(file) {
  state.asking?.abort();
  const asking = new AbortController();
  URL.revokeObjectURL(state.address);
  Object.assign(state, { file, address: URL.createObjectURL(file), unshown: false, result: null, error: "", hidden: new Set(), chosen: null, asking });
  showPicture();
  show();
  try {
    if (!state.model) await meetModel();
    const form = new FormData();
    form.append("image", file, file.name || "image");
    form.append("conf", LEAST_SCORE);
    form.append("max_det", MOST_DETECTIONS);
    const answer = await fetch("v1/detect", { method: "POST", body: form, signal: asking.signal });
    const said = await answer.json();
    if (answer.ok) state.result = said;
    else state.error = said.error.message;
  } catch (error) {
    if (asking.signal.aborted) return;
    state.error = "the server does not answer; is it still running?";
  }
  if (state.asking !== asking) return;
  state.asking = null;
  show();
}

async function takeSample() {
  try {
    const answer = await fetch("sample");
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    await look(new File([await answer.blob()], "sample.jpg", { type: "image/jpeg" }));
  } catch (error) {
    state.error = error.message;
    show();
  }
}

// --- what is shown ---------------------------------------------------------------------------------------------------

/** Items that the slider and the chosen classes leave, the best first. A classifier always says its best. */
function shownItems() {
  if (!state.result) return [];
  const { task, items } = state.result;
  return items.filter((item, place) => !state.hidden.has(item.label) && (task === "segment" || item.score >= state.threshold || (task === "classify" && place === 0)));
}

/** The result as the command gives it at this threshold and for these classes. */
const shownResult = () => ({ ...state.result, items: shownItems().map(({ mask, ...item }) => (mask ? { ...item, mask: { size: mask.size, counts: mask.counts } } : item)) });

function show() {
  showStage();
  byId("problem").hidden = !state.error;
  byId("problem").textContent = state.error;
  byId("controls").hidden = byId("take").hidden = !state.result;
  byId("findings").setAttribute("aria-busy", String(Boolean(state.asking)));
  if (!state.result) {
    byId("summary").textContent = state.asking ? "Looking ..." : state.error ? "Nothing: see above." : "Nothing yet: there is no picture.";
    drawFindings([]);
    return;
  }
  const items = shownItems();
  if (!items.includes(state.chosen)) state.chosen = null;
  showSummary(items);
  showClasses();
  showTable(items);
  drawFindings(items);
  showElsewhere();
}

function showSummary(items) {
  const { task, items: all, milliseconds } = state.result;
  const time = Object.values(milliseconds).reduce((sum, value) => sum + value, 0);
  const thing = { detect: "object", classify: "class", segment: "class" }[task];
  const rest = all.length - items.length;
  const below = rest ? `, ${rest} more not shown` : "";
  byId("summary").textContent = `${items.length ? plural(items.length, thing) : `No ${thing}`}${below}; ${Math.round(time)} ms`;
  for (const [id, has] of [["boxes", task === "detect"], ["names", task === "detect"], ["masks", all.some((item) => item.mask)]]) byId(`${id}-choice`).hidden = !has;
  byId("threshold-row").hidden = task === "segment";
  byId("how").hidden = task === "classify" || !items.length;
}

/** A button a class that was found, to leave it out. */
function showClasses() {
  const labels = [...new Set(state.result.items.filter((item) => isMap() || item.score >= state.threshold || state.hidden.has(item.label)).map((item) => item.label))];
  const focused = document.activeElement?.dataset?.label;
  byId("classes").replaceChildren(...(state.result.task === "classify" ? [] : labels.sort((a, b) => a - b)).map((label) => {
    const toggle = () => { if (!state.hidden.delete(label)) state.hidden.add(label); show(); };
    return element("button", { type: "button", "aria-pressed": !state.hidden.has(label), "data-label": label, onclick: toggle }, swatch(label), state.model.classes[label].name);
  }));
  if (focused !== undefined) byId("classes").querySelector(`[data-label="${focused}"]`)?.focus();
}

function swatch(label) {
  const made = element("span", { class: "swatch" });
  made.style.background = state.model.classes[label].colour;
  return made;
}

/** Of a calibrated model also the share that is right of those with such a score. */
const scoreWords = ({ score, confidence }) => score.toFixed(2) + (confidence === undefined ? "" : ` (${Math.round(100 * confidence)} %)`);

function showTable(items) {
  const { task } = state.result;
  const table = byId("table"), focused = document.activeElement?.dataset?.row;
  table.tHead.replaceChildren(element("tr", {}, ...COLUMNS[task].map((head) => element("th", { scope: "col" }, head))));
  table.tBodies[0].replaceChildren(...items.map((item, row) => {
    const choice = element("button", { type: "button", "data-row": row, "aria-pressed": item === state.chosen, onclick: () => choose(item === state.chosen ? null : item) }, swatch(item.label), item.name);
    const cells = { detect: () => [scoreWords(item), item.bbox.map(Math.round).join(" ")], classify: () => [item.score.toFixed(3)], segment: () => [`${(100 * item.share).toFixed(1)} %`] }[task]();
    return element("tr", { class: item === state.chosen ? "chosen" : "" }, element("td", {}, choice), ...cells.map((cell) => element("td", {}, cell)));
  }));
  byId("rows").hidden = !items.length;
  if (focused !== undefined) table.querySelector(`[data-row="${focused}"]`)?.focus();
}

function choose(item) {
  state.chosen = item;
  show();
  const row = document.querySelector("tr.chosen"), list = byId("rows");
  if (row) list.scrollTop = Math.min(row.offsetTop - row.offsetHeight, Math.max(list.scrollTop, row.offsetTop + row.offsetHeight - list.clientHeight));
}

// --- the picture -----------------------------------------------------------------------------------------------------

function showPicture() {
  byId("picture-facts").textContent = "";
  const picture = byId("picture");
  picture.style.width = "";
  picture.onload = () => {
    const { naturalWidth: width, naturalHeight: height } = picture;
    const larger = SMALL / Math.max(width, height);
    if (larger > 1) picture.style.width = `${Math.round(width * larger)}px`;
    byId("picture-facts").textContent = `${state.file.name}, ${width} x ${height} px`;
  };
  picture.onerror = () => { state.unshown = true; show(); };
  picture.src = state.address;
  picture.alt = state.file.name;
}

/** The stage holds the picture; of one that only the server can read, such as a TIFF, a sheet of its shape. */
function showStage() {
  const { file, unshown, result } = state, sheet = byId("sheet"), isBlank = unshown && Boolean(result);
  sheet.hidden = !file || (unshown && !result);
  sheet.style.width = isBlank ? "100%" : "";
  sheet.style.aspectRatio = isBlank ? `${result.image.width} / ${result.image.height}` : "";
  byId("picture").hidden = unshown;
  byId("stage").classList.toggle("empty", sheet.hidden);
  byId("invitation").hidden = !sheet.hidden;
  byId("invitation").textContent = unshown ? `This browser cannot show ${file.name}` : INVITATION;
  if (isBlank) byId("picture-facts").textContent = `${file.name}, ${result.image.width} x ${result.image.height} px, which this browser cannot show`;
}

function drawFindings(items) {
  const boxes = byId("boxes"), names = byId("names"), masks = byId("masks");
  boxes.replaceChildren();
  names.replaceChildren();
  masks.getContext("2d").clearRect(0, 0, masks.width, masks.height);
  if (!state.result) return;
  const { width, height } = state.result.image;
  byId("picture").alt = `${state.file.name}: ${listed(items.map((item) => item.name)) || "nothing found"}`;
  if (byId("show-masks").checked && items.some((item) => item.mask)) drawMasks(masks, items, width, height);
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  for (const layer of [boxes, names]) layer.classList.toggle("choosing", Boolean(state.chosen));
  // The best last, and so on top.
  for (const item of items.filter((each) => each.bbox).reverse()) {
    if (byId("show-boxes").checked) boxes.append(boxOf(item));
    if (byId("show-names").checked) names.append(nameOf(item, width, height));
  }
}

function boxOf(item) {
  const [x1, y1, x2, y2] = item.bbox, mark = item === state.chosen ? " chosen" : "";
  const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
  const line = drawn("rect", { class: `line${mark}`, ...place });
  line.style.stroke = classOf(item).colour;
  return drawn("g", { class: mark }, drawn("rect", { class: `edge${mark}`, ...place }), line);
}

function nameOf(item, width, height) {
  const [x1, y1, x2] = item.bbox, { colour, ink } = classOf(item);
  const marks = [y1 / height < 0.06 ? "inside" : "", item === state.chosen ? "chosen" : ""];
  const made = element("span", { class: marks.join(" ") }, `${item.name} ${item.score.toFixed(2)}`);
  Object.assign(made.style, { top: `${(100 * y1) / height}%`, background: colour, color: ink });
  // Near the right edge a name grows to the left.
  if (x1 / width > 0.7) made.style.right = `${100 - (100 * x2) / width}%`;
  else made.style.left = `${(100 * x1) / width}%`;
  return made;
}

function drawMasks(canvas, items, width, height) {
  const scale = Math.min(1, MASK_SIDE / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const image = new ImageData(canvas.width, canvas.height);
  for (const item of [...items].reverse().filter((each) => each.mask)) {
    item.mask.runs ??= runLengths(item.mask.counts);
    const colour = classOf(item).colour;
    const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    paintMask(image, item.mask, [...channels, state.chosen && item !== state.chosen ? 40 : 120], scale);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** What is shown at a place in the picture: the smallest box, or the class of the pixel. */
function itemAt(event) {
  const frame = byId("sheet").getBoundingClientRect(), { width, height } = state.result.image;
  const x = ((event.clientX - frame.left) / frame.width) * width, y = ((event.clientY - frame.top) / frame.height) * height;
  if (isMap()) return shownItems().find(({ mask }) => covers(mask, Math.floor(x), Math.floor(y))) ?? null;
  const area = ({ bbox: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const here = shownItems().filter(({ bbox }) => bbox && bbox[0] <= x && x < bbox[2] && bbox[1] <= y && y < bbox[3]);
  return here.length ? here.reduce((least, item) => (area(item) < area(least) ? item : least)) : null;
}

// --- the same elsewhere ----------------------------------------------------------------------------------------------

const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function command() {
  const { task, weights, options } = state.model, name = state.file.name || "image";
  const words = ["visionkit", task, quoted(name.startsWith("-") ? `./${name}` : name)];
  if (weights !== "default") words.push("--weights", quoted(weights));
  words.push(...options.map(quoted));
  if (task !== "segment") words.push("--conf", state.threshold.toFixed(2));
  const kept = keptClasses();
  if (kept) words.push("--classes", quoted(kept));
  return words.join(" ");
}

function request() {
  const fields = [`-F ${quoted(`image=@${state.file.name || "image"}`)}`];
  if (!isMap()) fields.push(`-F conf=${state.threshold.toFixed(2)}`);
  const kept = keptClasses();
  if (kept) fields.push(`--form-string ${quoted(`classes=${kept}`)}`); // -F would take quotes off
  return `curl ${fields.join(" ")} ${new URL("v1/detect", document.baseURI).href}`;
}

/** A name in a list of names: as in a row of a CSV file. */
const listName = (name) => (/^"|,/.test(name) ? `"${name.replaceAll('"', '""')}"` : name);

/** Names of all classes but those that are left out; empty where none is. */
function keptClasses() {
  if (!state.hidden.size) return "";
  return state.model.classes.filter(({ label }) => !state.hidden.has(label)).map(({ name }) => listName(name)).join(",");
}

function showElsewhere() {
  byId("command").textContent = command();
  byId("curl").textContent = request();
  byId("json").textContent = JSON.stringify(shownResult(), null, 1);
  byId("copied").textContent = "";
}

async function copy(what, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers give the clipboard only to pages of this machine or over https; the old way still works.
    const field = element("textarea", { class: "unseen" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (!done) { byId("copied").textContent = "This browser does not copy; mark the text below."; return; }
  }
  byId("copied").textContent = `Copied ${what}.`;
}

// --- hands -----------------------------------------------------------------------------------------------------------

function prepare() {
  byId("file").addEventListener("change", ({ target }) => { if (target.files.length) look(target.files[0]); target.value = ""; });
  byId("sample").addEventListener("click", takeSample);
  byId("threshold").addEventListener("input", ({ target }) => {
    state.threshold = Number(target.value);
    byId("threshold-value").textContent = state.threshold.toFixed(2);
    show();
  });
  for (const id of ["show-boxes", "show-names", "show-masks"]) byId(id).addEventListener("change", show);
  byId("sheet").addEventListener("click", (event) => { if (state.result) choose(itemAt(event)); });
  byId("copy-json").addEventListener("click", () => copy("the JSON", JSON.stringify(shownResult())));
  byId("copy-command").addEventListener("click", () => copy("the command", command()));
  byId("copy-curl").addEventListener("click", () => copy("the request", request()));
  byId("table").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], row = Number(event.target.dataset?.row);
    if (event.key === "Escape" && state.chosen) choose(null);
    const next = step && byId("table").querySelector(`[data-row="${row + step}"]`);
    if (next) { event.preventDefault(); next.focus(); next.click(); }
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    if (event.dataTransfer.files.length) look(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) look(event.clipboardData.files[0]); });
}

prepare();
meetModel().catch(() => { state.error = "the server does not answer; is it still running?"; show(); });

/* A report on semantic maps: a class for every pixel. */
const NAMED = 8;
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const labelOf = (name) => data.classes.indexOf(name);

// Pixels of an image in one cell of the confusion matrix, and those that are wrongly of a class, or wrongly not.
const inCell = (image, [row, column]) => image.cells.find(([r, c]) => r === row && c === column)?.[2] ?? 0;
const wrongOfClass = (image, label) => sum(image.cells.filter(([r, c]) => r !== c && (r === label || c === label)));
const hasClass = (image, label) => image.cells.some(([r, c]) => r === label || c === label);
const sum = (cells) => cells.reduce((total, cell) => total + cell[2], 0);

function chosenMaps(images) {
  if (state.cell) {
    const pixels = (image) => inCell(image, state.cell);
    return images.filter(pixels).sort((a, b) => pixels(b) - pixels(a));
  }
  if (state.className === "") return images;
  const label = labelOf(state.className);
  return images.filter((image) => hasClass(image, label)).sort((a, b) => wrongOfClass(b, label) - wrongOfClass(a, label));
}

function withLayer(image, layer) {
  const svg = photo(image);
  if (image[layer]) {
    const { width, height } = image;
    svg.append(drawn("image", { class: `map ${layer}`, href: image[layer], width, height, preserveAspectRatio: "none" }));
  }
  return svg;
}

function panel(image, layer, words) {
  return element("figure", {}, element("figcaption", {}, words), withLayer(image, layer));
}

const hasNothing = data.confusion.some((row) => row[data.classes.length]);
const LAYERS = { truth: "truth", predicted: "predicted", wrong: "wrong pixels" };

start({
  sections: [],
  headsOfClass: ["IoU", "accuracy", "boundary IoU", "pixels"],
  cellsOfClass: (row) => [number(row.IoU), number(row.accuracy), number(row.boundary_iou), row.pixels],
  rows: data.classes,
  columns: hasNothing ? [...data.classes, "no class"] : data.classes,
  confusionHint: "Rows are what is there, columns what was said, in percent of the pixels of a row.",
  cellWords: (count, total) => (count ? ((100 * count) / total).toFixed(1) : ""),
  mistakes: {},
  legend: [[data.wrong, false, "wrong pixels"], ...data.classes.map((name, label) => [data.colours[label], false, name])],
  chosen: chosenMaps,
  card: (image) => withLayer(image, "wrong"),
  words: (image) => {
    const share = state.cell ? inCell(image, state.cell) / image.judged : image.badness;
    return `${percent(share)} ${state.cell ? "of pixels" : "wrong"}: ${image.name}`;
  },
  layers: LAYERS,
  pictures: (image, layers) => Object.entries(LAYERS).filter(([layer]) => layers.has(layer))
    .map(([layer, words]) => panel(image, layer, layer === "wrong" ? `${words}: ${percent(image.badness)}` : words)),
  details: (image) => {
    const wrong = image.cells.filter(([row, column]) => row !== column).sort((a, b) => b[2] - a[2]);
    return wrong.slice(0, NAMED).map(([row, column, pixels]) =>
      [data.colours[row], `${cellName(row, column)}: ${percent(pixels / image.judged)}`]);
  },
});

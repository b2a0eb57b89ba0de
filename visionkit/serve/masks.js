// Masks as COCO's compressed run-length encoding, drawn on a canvas.

/** The run lengths of a mask, down the columns, the first of background: COCO writes 5 bits a letter, the lowest first,
 * from the fourth run on the difference to the run two before. */
export function runLengths(counts) {
  const runs = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0, shift = 0, bits;
    do {
      bits = counts.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
    } while (bits & 32);
    if (bits & 16 && shift < 32) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

/** Colour the pixels of a mask in an ImageData that shows the picture `scale` times as large, at most 1: a pixel there
 * has the colour of the one in the picture that its centre lies in. */
export function paintMask(image, mask, [red, green, blue, alpha], scale) {
  const height = mask.size[0], { data, width } = image;
  const first = (place) => Math.max(0, Math.ceil(place * scale - 0.5));
  let start = 0, inside = false;
  for (const run of mask.runs ?? runLengths(mask.counts)) {
    const stop = start + run;
    for (let at = start; inside && at < stop; ) {
      const column = Math.floor(at / height), top = at - column * height;
      const end = Math.min(stop, (column + 1) * height), bottom = end - column * height;
      const right = Math.min(width, first(column + 1)), low = Math.min(image.height, first(bottom));
      for (let x = first(column); x < right; x++) {
        for (let y = first(top); y < low; y++) {
          const place = 4 * (y * width + x);
          data[place] = red; data[place + 1] = green; data[place + 2] = blue; data[place + 3] = alpha;
        }
      }
      at = end;
    }
    start = stop;
    inside = !inside;
  }
}

/** Whether a pixel of the picture belongs to a mask. */
export function covers(mask, x, y) {
  const place = x * mask.size[0] + y;
  let stop = 0, inside = false;
  for (const run of mask.runs ?? runLengths(mask.counts)) {
    stop += run;
    if (place < stop) return inside;
    inside = !inside;
  }
  return false;
}

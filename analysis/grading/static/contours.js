// Contours as lines over the images: where a label map changes, between the centres of its voxels.

// A closed polygon around every part of a mask, holes too; vertices in voxels, of which 0 is the centre of the first.
// is(x, y) tells whether a voxel belongs to the mask; outside of width x height none does.
export function outlines(is, width, height) {
  const next = new Map();
  for (let y = -1; y < height; y++) {
    for (let x = -1; x < width; x++) {
      for (const [from, to] of SEGMENTS[+is(x, y) | (+is(x + 1, y) << 1) | (+is(x + 1, y + 1) << 2) | (+is(x, y + 1) << 3)]) {
        next.set(key(MIDDLES[from], x, y), { start: at(MIDDLES[from], x, y), end: key(MIDDLES[to], x, y) });
      }
    }
  }
  const polygons = [];
  while (next.size) {
    const polygon = [];
    let [place] = next.keys();
    for (let step = next.get(place); step; step = next.get(place)) {
      polygon.push(step.start);
      next.delete(place);
      place = step.end;
    }
    polygons.push(polygon);
  }
  return polygons;
}

// Edges of the square between four voxel centres (0, 0), (1, 0), (1, 1), (0, 1): their middles.
const MIDDLES = [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]];

// By which corners are inside (bits 0 to 3): the line from edge to edge, inside on its left. Where two opposite corners are
// inside, they are taken as apart.
const SEGMENTS = [
  [], [[0, 3]], [[1, 0]], [[1, 3]], [[2, 1]], [[0, 3], [2, 1]], [[2, 0]], [[2, 3]],
  [[3, 2]], [[0, 2]], [[1, 0], [3, 2]], [[1, 2]], [[3, 1]], [[0, 1]], [[3, 0]], [],
];

function at([dx, dy], x, y) {
  return [x + dx, y + dy];
}

function key([dx, dy], x, y) {
  return `${2 * (x + dx)} ${2 * (y + dy)}`;
}

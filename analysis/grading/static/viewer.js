// The images: one NiiVue per column, all looking at the same place, with the contours over each.

import { Niivue, NVImage, DRAG_MODE, MULTIPLANAR_TYPE, SHOW_RENDER, SLICE_TYPE } from "/static/vendor/niivue.js";
import { outlines } from "/static/contours.js";

// Told apart by lightness and dashes too.
export const LINES = [
  { colour: "#f0e442", dashes: [], border: "solid" },
  { colour: "#56b4e9", dashes: [7, 4], border: "dashed" },
  { colour: "#ff7f50", dashes: [2, 3], border: "dotted" },
  { colour: "#e3a8ff", dashes: [12, 4], border: "dashed" },
];

export const WINDOWS = {
  ct: [
    { key: "w", name: "soft tissue", low: -160, high: 240 },
    { key: "b", name: "bone", low: -450, high: 1050 },
  ],
  pet: [
    { key: "u", name: "SUV 0 to 10", low: 0, high: 10 },
    { key: "i", name: "SUV 0 to 5", low: 0, high: 5 },
  ],
  other: [],
};

const COLOUR_MAPS = {
  "dark is high": { R: [255, 0], G: [255, 0], B: [255, 0], A: [255, 255], I: [0, 255] },
  // Clear where nothing is taken up.
  glow: { R: [0, 150, 255, 255, 255], G: [0, 0, 80, 200, 255], B: [0, 0, 0, 0, 190], A: [0, 80, 150, 190, 210], I: [0, 48, 112, 184, 255] },
};

const OPTIONS = {
  backColor: [0, 0, 0, 1],
  crosshairColor: [0.55, 0.95, 0.55, 0.7],
  crosshairGap: 8,
  crosshairWidth: 0.6,
  crosshairWidthUnit: "mm",
  dragAndDropEnabled: false,
  dragMode: DRAG_MODE.windowing,
  fontColor: [0.95, 0.55, 0.15, 1],
  fontMinPx: 13,
  isColorbar: false,
  isOrientationTextVisible: true,
  isRadiologicalConvention: true,
  logLevel: "error",
  loadingText: "",
  multiplanarLayout: MULTIPLANAR_TYPE.COLUMN,
  multiplanarShowRender: SHOW_RENDER.NEVER,
  showAllOrientationMarkers: true,
  sliceType: SLICE_TYPE.MULTIPLANAR,
};

export class Viewer {
  // modalities: their name and kind (ct, pet or other).
  constructor(element, modalities, structures) {
    this.modalities = modalities;
    this.structures = structures;
    this.windows = Object.fromEntries(modalities.map((m) => [m.name, WINDOWS[m.kind][0]]));
    this.contours = true;
    this.columns = columnsOf(modalities).map((shown) => new Column(element, shown));
    this.only = null;
  }

  async attach() {
    for (const column of this.columns) await column.attach();
    for (const column of this.columns) {
      const others = this.columns.filter((other) => other !== column);
      if (others.length) column.niivue.broadcastTo(others.map((other) => other.niivue), { "2d": true, "3d": false, zoomPan: true });
    }
  }

  // files: unpacked NIfTI by modality name, axes towards right, front and head; contours: a label map likewise.
  async show(files, contours) {
    const labels = await NVImage.loadFromUrl({ url: "contours.nii", name: "contours.nii", buffer: contours });
    for (const column of this.columns) {
      const volumes = column.shown.map((modality, layer) => {
        const window = this.windows[modality.name];
        const range = window ? { cal_min: window.low, cal_max: window.high } : {};
        const opacity = layer ? 0.6 : 1;
        return { buffer: files[modality.name], opacity, name: `${modality.name}.nii`, colormap: colourMap(modality, layer), ...range };
      });
      await column.load(volumes, new LabelMap(labels, this.structures.length));
    }
  }

  clear() {
    for (const column of this.columns) column.clear();
  }

  toggleCrosshair() {
    this.crosshair = this.crosshair === false;
    this.#each((niivue) => (niivue.opts.crosshairWidth = this.crosshair ? OPTIONS.crosshairWidth : 0));
  }

  // The voxel in the cross-hair; without one, the middle.
  look(voxel) {
    this.#each((niivue) => {
      const size = niivue.volumes[0].hdr.dims.slice(1, 4);
      niivue.scene.crosshairPos = size.map((length, axis) => (voxel ? (voxel[axis] + 0.5) / length : 0.5));
    });
  }

  scroll(x, y, z) {
    this.#each((niivue) => niivue.moveCrosshairInVox(x, y, z));
  }

  // About the cross-hair; null shows the whole again.
  zoom(factor) {
    this.#each((niivue) => {
      const [x, y, z, zoom] = niivue.scene.pan2Dxyzmm;
      const zoomed = Math.min(10, Math.max(0.5, zoom * factor));
      const middle = niivue.frac2mm(niivue.scene.crosshairPos);
      const moved = [x, y, z].map((pan, axis) => pan + (zoom - zoomed) * middle[axis]);
      niivue.scene.pan2Dxyzmm = factor === null ? [0, 0, 0, 1] : [...moved, zoomed];
    });
  }

  setWindow(kind, window) {
    for (const modality of this.modalities.filter((m) => m.kind === kind)) this.windows[modality.name] = window;
    for (const column of this.columns) column.setWindow(kind, window);
  }

  toggleContours() {
    this.contours = !this.contours;
    for (const column of this.columns) {
      column.withContours = this.contours;
      column.niivue.drawScene();
    }
  }

  // All columns, then each alone.
  focusNext() {
    this.only = this.only === null ? 0 : this.only + 1;
    if (this.only === this.columns.length || this.columns.length === 1) this.only = null;
    this.columns.forEach((column, number) => {
      column.figure.hidden = this.only !== null && this.only !== number;
      const { opts } = column.niivue;
      opts.multiplanarLayout = this.only === null ? MULTIPLANAR_TYPE.COLUMN : MULTIPLANAR_TYPE.AUTO;
      // Alone, there is room to make the plane large that contours are drawn in.
      opts.heroImageFraction = this.only === null ? 0 : 0.65;
      opts.heroSliceType = SLICE_TYPE.AXIAL;
      if (!column.figure.hidden) column.niivue.resizeListener();
    });
  }

  #each(change) {
    for (const { niivue } of this.columns) {
      change(niivue);
      niivue.drawScene();
    }
  }
}

class Column {
  constructor(element, shown) {
    this.shown = shown;
    this.figure = document.createElement("figure");
    this.caption = document.createElement("figcaption");
    const stage = document.createElement("div");
    stage.className = "stage";
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.lines = document.createElement("canvas");
    this.lines.className = "lines";
    stage.append(this.canvas, this.lines);
    this.figure.append(this.caption, stage);
    element.append(this.figure);
    this.withContours = true;
    this.niivue = new Niivue(OPTIONS);
    for (const [name, map] of Object.entries(COLOUR_MAPS)) this.niivue.addColormap(name, map);
    this.windows = shown.map((modality) => WINDOWS[modality.kind][0]);
    this.#describe();
  }

  async attach() {
    await this.niivue.attachToCanvas(this.canvas);
    // Without the focus, NiiVue's own keys are out of the way.
    this.canvas.removeAttribute("tabindex");
    const draw = this.niivue.drawScene.bind(this.niivue);
    this.niivue.drawScene = () => {
      const drawn = draw();
      this.#drawContours();
      this.#describe();
      return drawn;
    };
  }

  clear() {
    this.labels = null;
    while (this.niivue.volumes.length) this.niivue.removeVolume(this.niivue.volumes[0]);
    this.niivue.drawScene();
  }

  async load(volumes, labels) {
    const { niivue } = this;
    this.clear();
    for (const options of volumes) niivue.addVolume(await NVImage.loadFromUrl({ url: options.name, ...options }));
    this.labels = labels;
  }

  setWindow(kind, window) {
    this.shown.forEach((modality, layer) => {
      if (modality.kind !== kind) return;
      this.niivue.volumes[layer].cal_min = window.low;
      this.niivue.volumes[layer].cal_max = window.high;
    });
    this.niivue.updateGLVolume();
    this.shown.forEach((modality, layer) => {
      if (modality.kind === kind) this.windows[layer] = window;
    });
    this.#describe();
  }

  #drawContours() {
    const { width, height } = this.canvas;
    Object.assign(this.lines, { width, height });
    if (!this.withContours || !this.labels) return;
    const context = this.lines.getContext("2d");
    const scale = width / this.canvas.clientWidth;
    this.niivue.screenSlices.forEach((tile, index) => {
      if (tile.axCorSag > SLICE_TYPE.SAGITTAL) return;
      const place = placeOf(this.niivue, index, this.labels.size);
      this.labels.outlines(tile.axCorSag, this.niivue.scene.crosshairPos).forEach((polygons, structure) => {
        if (polygons.length) stroke(context, tile.leftTopWidthHeight, polygons.map((polygon) => polygon.map(place)), LINES[structure % LINES.length], scale);
      });
    });
  }

  // What is shown, in which window, and the value in the cross-hair where there is room for it.
  #describe() {
    const words = this.shown.map((modality, layer) => `${modality.name}${this.windows[layer] ? ` (${this.windows[layer].name})` : ""}`);
    const values = this.niivue.volumes.map((volume, layer) => {
      const at = this.niivue.scene.crosshairPos.map((share, axis) => Math.min(volume.hdr.dims[axis + 1] - 1, Math.floor(share * volume.hdr.dims[axis + 1])));
      return valueInWords(volume.getValue(...at), this.shown[layer].kind);
    });
    this.caption.textContent = this.shown.length === 1 && values.length ? `${words[0]}: ${values[0]}` : words.join(" + ");
    this.canvas.setAttribute("aria-label", `${words.join(" and ")}, three planes with contours`);
  }
}

function valueInWords(value, kind) {
  if (kind === "ct") return `${Math.round(value)} HU`;
  return kind === "pet" ? `SUV ${value.toFixed(1)}` : value.toPrecision(3);
}

// A column per modality, and the fusion of the first with a PET.
function columnsOf(modalities) {
  const single = modalities.map((modality) => [modality]);
  const pet = modalities.find((modality) => modality.kind === "pet");
  const base = modalities.find((modality) => modality.kind !== "pet");
  return pet && base ? [...single, [base, pet]] : single;
}

function colourMap(modality, layer) {
  if (layer > 0) return "glow";
  return modality.kind === "pet" ? "dark is high" : "gray";
}

// The axes of the voxels that run across a plane and up it, and the one through it: axial, coronal, sagittal.
const PLANES = [[0, 1, 2], [0, 2, 1], [1, 2, 0]];

class LabelMap {
  constructor(image, structures) {
    this.size = image.hdr.dims.slice(1, 4);
    this.values = image.img;
    this.structures = structures;
    this.kept = new Map();
  }

  // Of each structure in the slice that the cross-hair is in: polygons of voxels [across, up].
  outlines(plane, crosshair) {
    const [across, up, through] = PLANES[plane];
    const { size, values } = this;
    const slice = Math.min(size[through] - 1, Math.max(0, Math.floor(crosshair[through] * size[through])));
    const name = `${plane} ${slice}`;
    if (!this.kept.has(name)) {
      const steps = [1, size[0], size[0] * size[1]];
      const [width, height] = [size[across], size[up]];
      const value = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : values[x * steps[across] + y * steps[up] + slice * steps[through]]);
      const found = Array.from({ length: this.structures }, (_, index) => outlines((x, y) => value(x, y) === index + 1, width, height));
      this.kept.set(name, found.map((polygons) => polygons.map((polygon) => polygon.map(([x, y]) => voxel(plane, x, y, slice)))));
    }
    return this.kept.get(name);
  }
}

function voxel(plane, x, y, slice) {
  const [across, up, through] = PLANES[plane];
  const found = [0, 0, 0];
  [found[across], found[up], found[through]] = [x, y, slice];
  return found;
}

// From a voxel to the pixel that NiiVue draws it at in a tile, however it is mirrored, moved and zoomed.
function placeOf(niivue, index, size) {
  const [left, top, width, height] = niivue.screenSlices[index].leftTopWidthHeight;
  const [across, up] = PLANES[niivue.screenSlices[index].axCorSag];
  const corners = [0.25, 0.75].map((share) => niivue.screenXY2TextureFrac(left + share * width, top + share * height, index, false));
  const along = (axis, start, length) => {
    const slope = (0.5 * length) / (corners[1][axis] - corners[0][axis]);
    return (of) => start + 0.25 * length + slope * ((of[axis] + 0.5) / size[axis] - corners[0][axis]);
  };
  const [x, y] = [along(across, left, width), along(up, top, height)];
  return (of) => [x(of), y(of)];
}

function stroke(context, [left, top, width, height], polygons, line, scale) {
  const path = new Path2D();
  for (const polygon of polygons) {
    polygon.forEach(([x, y], place) => (place ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  const tile = new Path2D();
  tile.rect(left, top, width, height);
  context.save();
  context.clip(tile);
  context.lineJoin = "round";
  for (const [colour, breadth, dashes] of [["rgb(0 0 0 / 70%)", 3.5, []], [line.colour, 1.8, line.dashes]]) {
    context.strokeStyle = colour;
    context.lineWidth = breadth * scale;
    context.setLineDash(dashes.map((dash) => dash * scale));
    context.stroke(path);
  }
  context.restore();
}

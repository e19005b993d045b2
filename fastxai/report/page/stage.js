"use strict";
// One image drawn large: the picture, a method's map over it, outlines of superpixels, and what lies under the pointer.

const AGREEMENT = -1; // instead of a method's number: where the two methods of the pair agree

// Everything of an image that is drawn, unpacked.
async function unpack(detail) {
  const picture = detail.picture ? await bitmap(detail.picture) : null;
  const labels = await Promise.all(detail.labels.map(labelsOf));
  const masks = await Promise.all(detail.masks.map((plane) => (plane ? maskOf(plane) : null)));
  const maps = await Promise.all(
    detail.maps.map(async (map) => {
      if (!map) return null;
      if (map.weights) return { ...map, ...spread(map, labels[map.labels]) };
      return { ...map, ...pixels(await bitmap(map.map)) };
    }),
  );
  const sized = picture || labels[0] || maps.find((map) => map);
  const [height, width] = sized ? [sized.height, sized.width] : INDEX.side;
  return { detail, height, width, picture, labels, masks, maps, grey: greyOf(picture, height, width) };
}

// Eight bits a pixel of a grey picture.
function pixels(source) {
  const { width, height } = source;
  const rgba = context(width, height).draw(source);
  return { width, height, bytes: Uint8Array.from({ length: width * height }, (_, i) => rgba[4 * i]) };
}

// The same for weights of superpixels, from -limit to limit.
function spread(map, plane) {
  const share = map.weights.map((weight) => (map.limit > 0 ? Math.round(127.5 * ((weight || 0) / map.limit + 1)) : 128));
  return { width: plane.width, height: plane.height, bytes: Uint8Array.from(plane.labels, (label) => share[label] ?? 128) };
}

function context(width, height) {
  const canvas = element("canvas", { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  return {
    canvas,
    draw(source) {
      pen.drawImage(source, 0, 0, width, height);
      return pen.getImageData(0, 0, width, height).data;
    },
    put(image) {
      pen.putImageData(image, 0, 0);
      return canvas;
    },
  };
}

// The picture pale and grey, so that colours over it are the map's alone.
function greyOf(picture, height, width) {
  const made = context(width, height);
  const image = new ImageData(width, height);
  const rgba = picture ? made.draw(picture) : new Uint8ClampedArray(4 * width * height).fill(200);
  for (let i = 0; i < image.data.length; i += 4) {
    const luma = 0.299 * rgba[i] + 0.587 * rgba[i + 1] + 0.114 * rgba[i + 2];
    image.data.fill(0.5 * luma + 108, i, i + 3);
    image.data[i + 3] = 255;
  }
  return made.put(image);
}

// A method's colours; the weaker a pixel, the more the picture shows through.
function colored(map, kind) {
  const positive = kind === "positive";
  const table = positive ? COLORS.positive : COLORS.signed;
  const image = new ImageData(map.width, map.height);
  for (let i = 0; i < map.bytes.length; i++) {
    const value = map.bytes[i];
    const share = positive ? value / 255 : Math.abs(value / 127.5 - 1);
    image.data.set(table.subarray(3 * value, 3 * value + 3), 4 * i);
    image.data[4 * i + 3] = share < 0.01 ? 0 : 255 * Math.min(1, share ** 0.7);
  }
  return context(map.width, map.height).put(image);
}

function rgbOf(color) {
  return [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
}

function agreementOf(first, second) {
  const image = new ImageData(first.width, first.height);
  const [one, two, both] = [INDEX.marks.first, INDEX.marks.second, INDEX.marks.both].map(rgbOf);
  for (let i = 0; i < first.mask.length; i++) {
    const color = first.mask[i] ? (second.mask[i] ? both : one) : second.mask[i] ? two : null;
    if (color) image.data.set([...color, 190], 4 * i);
  }
  return context(first.width, first.height).put(image);
}

// Lines along the borders between labels, in pixels of the label map.
function borders({ width, height, labels }) {
  const path = new Path2D();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = labels[y * width + x];
      if (x + 1 < width && labels[y * width + x + 1] !== here) {
        path.moveTo(x + 1, y);
        path.lineTo(x + 1, y + 1);
      }
      if (y + 1 < height && labels[(y + 1) * width + x] !== here) {
        path.moveTo(x, y + 1);
        path.lineTo(x + 1, y + 1);
      }
    }
  }
  return path;
}

// The pixels of one label.
function area({ width, height, labels }, label) {
  const path = new Path2D();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (labels[y * width + x] !== label) continue;
      let end = x;
      while (end + 1 < width && labels[y * width + end + 1] === label) end++;
      path.rect(x, y, end - x + 1, 1);
      x = end;
    }
  }
  return path;
}

const stage = {
  image: null, // what `unpack` gave
  method: 0, // or AGREEMENT
  overlay: true,
  outlines: false,
  opacity: 1,
  marked: null, // the label under the pointer

  get map() {
    return this.method === AGREEMENT ? null : this.image?.maps[this.method];
  },

  // The superpixels that outlines show: the method's own, else the first of the image.
  get plane() {
    return this.image ? this.image.labels[this.map?.labels ?? 0] : undefined;
  },

  // The map over the pale picture, made once a method; null where there is none.
  layer() {
    const kept = (this.image.layers ??= new Map());
    const key = this.method === AGREEMENT ? `pair ${filters.first} ${filters.second}` : this.method;
    if (!kept.has(key)) {
      const colors = this.colors();
      const { width, height, grey } = this.image;
      const made = colors && context(width, height);
      if (made) [grey, colors].forEach((source) => made.draw(source));
      kept.set(key, made && made.canvas);
    }
    return kept.get(key);
  },

  colors() {
    if (this.method !== AGREEMENT) return this.map ? colored(this.map, INDEX.methods[this.method].kind) : null;
    const [first, second] = [this.image.masks[filters.first], this.image.masks[filters.second]];
    return first && second ? agreementOf(first, second) : null;
  },

  draw() {
    const canvas = $("#canvas");
    if (!this.image) return;
    const { width, height } = this.image;
    const box = $("#stage").getBoundingClientRect();
    const beside = matchMedia("(min-width: 901px)").matches;
    const scale = Math.min(box.width / width, (beside ? box.height : 0.62 * innerHeight) / height);
    const [wide, tall] = [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
    const ratio = Math.min(devicePixelRatio || 1, 2);
    Object.assign(canvas, { width: wide * ratio, height: tall * ratio });
    Object.assign(canvas.style, { width: `${wide}px`, height: `${tall}px` });
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    const paint = (source, alpha) => {
      pen.globalAlpha = alpha;
      pen.drawImage(source, 0, 0, canvas.width, canvas.height);
      pen.globalAlpha = 1;
    };
    paint(this.image.picture || this.image.grey, 1);
    const layer = this.overlay ? this.layer() : null;
    if (layer) paint(layer, this.opacity);
    this.drawLines(pen, canvas, ratio);
  },

  drawLines(pen, canvas, ratio) {
    const plane = this.plane;
    if (!plane) return;
    const step = canvas.width / plane.width;
    pen.save();
    pen.scale(step, canvas.height / plane.height);
    if (this.marked !== null) {
      pen.fillStyle = "rgb(255 255 255 / 38%)";
      pen.fill(area(plane, this.marked));
    }
    if (this.outlines) {
      const path = (plane.path ??= borders(plane));
      for (const [color, width] of [["rgb(10 14 20 / 60%)", 2.6], [INDEX.marks.line, 1.2]]) {
        pen.strokeStyle = color;
        pen.lineWidth = (width * ratio) / step;
        pen.stroke(path);
      }
    }
    pen.restore();
  },

  // What stands at a place of the canvas, in shares of its width and height: text, and the label there if any.
  at(x, y) {
    const map = this.map;
    const look = (plane) => Math.floor(y * plane.height) * plane.width + Math.floor(x * plane.width);
    if (this.method === AGREEMENT) {
      const [first, second] = [this.image.masks[filters.first], this.image.masks[filters.second]];
      if (!first || !second) return { text: "", label: null };
      const inside = [filters.first, filters.second].filter((method, i) => [first, second][i].mask[look(first)]);
      return { text: inside.map((method) => INDEX.methods[method].label).join(" and ") || "neither", label: null };
    }
    if (!map) return { text: "", label: null };
    if (map.weights) {
      const label = this.plane.labels[look(this.plane)];
      return { text: this.describe(map, label), label };
    }
    const value = map.bytes[look(map)];
    const positive = INDEX.methods[this.method].kind === "positive";
    return { text: positive ? `≈ ${(value / 255).toFixed(2)}` : `≈ ${signedText((value / 127.5 - 1) * map.limit, 2)}`, label: null };
  },

  describe(map, label) {
    const weight = map.weights[label] ?? 0;
    const rank = map.weights.filter((other) => Math.abs(other) > Math.abs(weight)).length + 1;
    return `superpixel ${label} · weight ${signedText(weight)} · ${rank} of ${map.weights.length}`;
  },
};

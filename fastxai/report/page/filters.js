"use strict";
// Which images are shown, and in which order.

const BINS = 40;

const filters = {
  search: "",
  class: "",
  outcome: "",
  sort: "order",
  descending: false,
  first: INDEX.pair ? INDEX.pair[0] : 0,
  second: INDEX.pair ? INDEX.pair[1] : 0,
  ranges: { confidence: [0, 1], iou: [0, 1], disagreement: [0, 1] },

  get pair() {
    return pairNumber(this.first, this.second);
  },

  get untouched() {
    const whole = Object.values(this.ranges).every(([low, high]) => low === 0 && high === 1);
    return whole && !this.search && !this.class && !this.outcome;
  },

  value(name, image) {
    if (name === "order") return image;
    if (name === "confidence") return INDEX.confidence[image] ?? NaN;
    if (name === "iou") return this.pair < 0 ? NaN : IOU[image * PAIRS + this.pair];
    if (name === "correlation") return this.pair < 0 ? NaN : CORRELATION[image * PAIRS + this.pair];
    return DISAGREEMENT[image];
  },

  keeps(image) {
    if (this.search && !NAMES[image].includes(this.search)) return false;
    if (this.class && String(INDEX.predicted[image]) !== this.class) return false;
    if (this.outcome) {
      const label = INDEX.labels[image];
      if (label < 0 || (label === INDEX.predicted[image]) !== (this.outcome === "right")) return false;
    }
    return Object.entries(this.ranges).every(([name, [low, high]]) => {
      if (low === 0 && high === 1) return true; // also what has no value
      const value = this.value(name, image);
      return value >= low && value <= high;
    });
  },

  // Images without a value come last, whichever way the order goes; equal ones stay in run order.
  images() {
    const kept = [];
    for (let image = 0; image < COUNT; image++) if (this.keeps(image)) kept.push(image);
    const turn = this.descending ? -1 : 1;
    if (this.sort === "name") return kept.sort((a, b) => turn * ORDER.compare(INDEX.ids[a], INDEX.ids[b]) || a - b);
    const values = new Map(kept.map((image) => [image, this.value(this.sort, image)]));
    return kept.sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
      return turn * (x - y) || a - b;
    });
  },

  reset() {
    Object.assign(this, { search: "", class: "", outcome: "" });
    for (const name of Object.keys(this.ranges)) this.ranges[name] = [0, 1];
  },
};

const ORDER = new Intl.Collator(undefined, { numeric: true });
const NAMES = INDEX.ids.map((name) => name.toLowerCase());
const DISAGREEMENT = Float32Array.from({ length: COUNT }, (_, image) => {
  const row = IOU.subarray(image * PAIRS, (image + 1) * PAIRS).filter((value) => !Number.isNaN(value));
  return row.length ? 1 - row.reduce((sum, value) => sum + value, 0) / row.length : NaN;
});

// The bars above a range: how many images have which value.
function drawHistogram(field) {
  const name = field.dataset.range;
  const counts = new Array(BINS).fill(0);
  for (let image = 0; image < COUNT; image++) {
    const value = filters.value(name, image);
    if (!Number.isNaN(value)) counts[Math.max(0, Math.min(BINS - 1, Math.floor(value * BINS)))]++;
  }
  const most = Math.max(1, ...counts);
  const [low, high] = filters.ranges[name];
  $(".histogram", field).replaceChildren(
    ...counts.map((count, bin) => {
      const tall = count ? Math.max(1.2, (28 * count) / most) : 0;
      const middle = (bin + 0.5) / BINS;
      const box = { x: (100 * bin) / BINS + 0.25, y: 30 - tall, width: 100 / BINS - 0.5, height: tall };
      return drawn("rect", { ...box, class: middle >= low && middle <= high ? "in" : "" });
    }),
  );
  $("output", field).textContent = `${low.toFixed(2)} – ${high.toFixed(2)}`;
}

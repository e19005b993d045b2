"use strict";
// Thumbnails in a grid that grows as it is scrolled, and the controls above it.

const PAGEFUL = 96;
const blocks = new Map(); // number of a block of thumbnails -> its pictures, on their way or there

const gallery = {
  shown: [], // images, in order
  made: 0, // cards that exist

  refresh() {
    this.shown = filters.images();
    this.made = 0;
    $("#grid").replaceChildren();
    this.extend();
    const some = this.shown.length === COUNT ? grouped(COUNT) : `${grouped(this.shown.length)} of ${grouped(COUNT)}`;
    $("#count").textContent = `${some} ${COUNT === 1 ? "image" : "images"}`;
    $("#reset").hidden = filters.untouched;
    all(".range").forEach(drawHistogram);
  },

  extend(until = this.made + PAGEFUL) {
    const next = this.shown.slice(this.made, until);
    $("#grid").append(...next.map((image, offset) => card(image, this.made + offset)));
    this.made += next.length;
  },

  focus(place) {
    if (place < 0 || place >= this.shown.length) return;
    if (place >= this.made) this.extend(place + PAGEFUL);
    const button = $("#grid").children[place].firstChild;
    button.focus();
    button.scrollIntoView({ block: "nearest" });
  },

  get columns() {
    return getComputedStyle($("#grid")).gridTemplateColumns.split(" ").length;
  },
};

function card(image, place) {
  const name = INDEX.ids[image];
  const kind = firstName(INDEX.predicted[image]);
  const share = fixed(INDEX.confidence[image], 2);
  const picture = element("img", { className: "thumb", alt: "", decoding: "async", loading: "lazy" });
  if (image < INDEX.thumbnails) thumbnail(image).then((source) => source && (picture.src = source));
  const wrong = INDEX.labels && INDEX.labels[image] >= 0 && INDEX.labels[image] !== INDEX.predicted[image];
  const line = element("span", { className: "class" }, kind);
  if (wrong) line.append(element("b", { className: "wrong", title: `labelled ${className(INDEX.labels[image])}` }, " ✗"));
  const figures = element("span", { className: "figures" }, element("b", {}, share));
  const pair = filters.pair;
  if (pair >= 0) {
    const shown = filters.sort === "disagreement" ? "disagreement" : filters.sort === "correlation" ? "correlation" : "iou";
    const label = { disagreement: "disagree", correlation: "rank", iou: "IoU" }[shown];
    figures.append(`${label} ${fixed(filters.value(shown, image), 3)}`);
  }
  const button = element(
    "button",
    { type: "button", className: "card", title: name, "aria-label": `${name}: ${kind}, confidence ${share}` },
    picture,
    line,
    element("span", { className: "name" }, element("bdi", {}, name)),
    figures,
  );
  button.dataset.place = place;
  button.onclick = () => viewer.open(place);
  return element("li", {}, button);
}

async function thumbnail(image) {
  const number = Math.floor(image / INDEX.block);
  if (!blocks.has(number)) blocks.set(number, block(`thumbnails-${number}`));
  const pictures = await blocks.get(number);
  const text = pictures && pictures[image % INDEX.block];
  return text ? `data:image/webp;base64,${text}` : null;
}

function fillControls() {
  const counts = new Map();
  for (const number of INDEX.predicted) counts.set(number, (counts.get(number) || 0) + 1);
  const classes = [...counts].sort((a, b) => ORDER.compare(firstName(a[0]), firstName(b[0])));
  $("#class").append(
    ...classes.map(([number, count]) => element("option", { value: String(number) }, `${firstName(number)} (${count})`)),
  );
  INDEX.methods.forEach((method, number) => {
    for (const id of ["#first", "#second"]) $(id).append(element("option", { value: String(number) }, method.label));
  });
  if (!PAIRS) all("[data-pairs]").forEach((node) => (node.tagName === "OPTION" ? node.remove() : (node.hidden = true)));
  $("#outcome-field").hidden = !INDEX.labels;
  showControls();
}

// The controls as the filters are: after a reset, and where a pair was put right.
function showControls() {
  for (const name of ["search", "class", "outcome", "sort", "first", "second"]) {
    const field = $(`#${name}`);
    if (name !== "search" || field.value.trim().toLowerCase() !== filters.search) field.value = filters[name];
  }
  for (const field of all(".range")) {
    const [low, high] = filters.ranges[field.dataset.range];
    const [from, to] = all("input", field);
    [from.value, to.value] = [low, high];
  }
  $("#direction").textContent = filters.descending ? "↓" : "↑";
  $("#direction").setAttribute("aria-label", filters.descending ? "Descending" : "Ascending");
}

function choosePair(changed, value) {
  const other = changed === "first" ? "second" : "first";
  if (filters[other] === value) filters[other] = filters[changed];
  filters[changed] = value;
  showControls();
  gallery.refresh();
}

function listenToControls() {
  let waiting = 0;
  $("#search").oninput = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      filters.search = $("#search").value.trim().toLowerCase();
      gallery.refresh();
    }, 80);
  };
  for (const name of ["class", "outcome", "sort"]) {
    $(`#${name}`).onchange = (event) => {
      filters[name] = event.target.value;
      if (name === "sort") filters.descending = ["confidence", "disagreement"].includes(filters.sort);
      showControls();
      gallery.refresh();
    };
  }
  for (const name of ["first", "second"]) $(`#${name}`).onchange = (event) => choosePair(name, Number(event.target.value));
  $("#direction").onclick = () => {
    filters.descending = !filters.descending;
    showControls();
    gallery.refresh();
  };
  for (const field of all(".range")) {
    const [from, to] = all("input", field);
    const change = (moved) => {
      if (Number(from.value) > Number(to.value)) moved === from ? (to.value = from.value) : (from.value = to.value);
      filters.ranges[field.dataset.range] = [Number(from.value), Number(to.value)];
      gallery.refresh();
    };
    from.oninput = () => change(from);
    to.oninput = () => change(to);
  }
  $("#reset").onclick = () => {
    $("#search").value = "";
    filters.reset();
    showControls();
    gallery.refresh();
  };
  for (const button of all("[data-class]")) {
    button.onclick = () => {
      filters.class = button.dataset.class;
      showControls();
      gallery.refresh();
      $("#gallery").scrollIntoView();
    };
  }
  new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && gallery.extend(), {
    rootMargin: "900px",
  }).observe($("#more"));
}

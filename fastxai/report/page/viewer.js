"use strict";
// The large view of one image: its maps to choose from, switches, and facts beside them.

const viewer = {
  place: -1, // in the gallery's order
  image: -1,

  get isOpen() {
    return $("#viewer").open;
  },

  async open(place) {
    if (place < 0 || place >= gallery.shown.length) return;
    this.place = place;
    this.image = gallery.shown[place];
    const image = this.image;
    if (!this.isOpen) $("#viewer").showModal();
    $("#viewer-title").firstChild.textContent = INDEX.ids[image];
    $("#viewer-title").title = INDEX.ids[image];
    $("#place").textContent = `${grouped(place + 1)} of ${grouped(gallery.shown.length)}`;
    $("#previous").disabled = place === 0;
    $("#next").disabled = place === gallery.shown.length - 1;
    $("#viewer").dataset.ready = "";
    const detail = image < INDEX.whole ? await block(`image-${image}`) : null;
    const unpacked = detail ? await unpack(detail) : await this.plain(image);
    if (this.image !== image) return; // another one was asked for meanwhile
    stage.image = unpacked;
    this.leave();
    $("#left-out").hidden = Boolean(detail);
    this.fill(detail);
    this.show();
    $("#viewer").dataset.ready = String(image);
  },

  // An image whose maps were left out: its thumbnail, as far as there is one.
  async plain(image) {
    const source = image < INDEX.thumbnails ? await thumbnail(image) : null;
    const picture = source ? await bitmap(source.split(",")[1]) : null;
    const [height, width] = picture ? [picture.height, picture.width] : INDEX.side;
    const none = INDEX.methods.map(() => null);
    return { height, width, picture, labels: [], masks: none, maps: none, grey: greyOf(picture, height, width) };
  },

  close() {
    $("#viewer").close();
  },

  step(by) {
    this.open(this.place + by);
  },

  choose(method) {
    if (method === AGREEMENT ? !PAIRS : !INDEX.methods[method]) return;
    stage.method = method;
    stage.overlay = true;
    this.leave();
    this.show();
  },

  // Everything that changes with the image.
  fill(detail) {
    this.fillMaps();
    const explained = INDEX.targets[this.image];
    const list = detail ? detail.predictions : [[INDEX.predicted[this.image], INDEX.confidence[this.image]]];
    $("#predictions").replaceChildren(
      ...list.map(([number, share]) => {
        const name = element("span", { title: className(number) }, firstName(number));
        const row = element("div", { className: "row" }, name, element("span", {}, fixed(share, 3)));
        const bar = drawn("svg", { class: "meter", "aria-hidden": "true" });
        bar.append(drawn("rect", { width: `${100 * Math.min(1, share || 0)}%`, height: "100%", rx: 2 }));
        return element("li", { className: number === explained ? "explained" : "" }, row, bar);
      }),
    );
    $("#agreement-box").hidden = !PAIRS;
    $("#agreement").replaceChildren(
      ...INDEX.pairs.map(([a, b], pair) => {
        const names = `${INDEX.methods[a].label} × ${INDEX.methods[b].label}`;
        const cells = [IOU, CORRELATION].map((values) => fixed(values[this.image * PAIRS + pair], 3));
        return element("tr", {}, element("td", {}, names), ...cells.map((text) => element("td", { className: "number" }, text)));
      }),
    );
    this.fillFacts(detail);
  },

  fillFacts(detail) {
    const facts = [["explained", className(INDEX.targets[this.image])]];
    const label = INDEX.labels ? INDEX.labels[this.image] : -1;
    if (label >= 0) facts.push(["label", className(label)]);
    facts.push(["number in the run", grouped(INDEX.numbers[this.image])]);
    if (detail) {
      facts.push(["original", `${detail.original[1]} × ${detail.original[0]} pixels`]);
      facts.push(["digest", detail.digest]);
      detail.maps.forEach((map, number) => {
        if (typeof map?.score === "number") facts.push([`${INDEX.methods[number].label} fit`, `weighted R² ${fixed(map.score, 3)}`]);
      });
    }
    $("#facts").replaceChildren(
      ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, element("bdi", {}, value)))),
    );
  },

  fillMaps() {
    const entries = INDEX.methods.map((method, number) => [number, method.label]);
    if (PAIRS) entries.push([AGREEMENT, "Agreement"]);
    const { width, height, grey } = stage.image;
    const chosen = stage.method;
    $("#maps").replaceChildren(
      ...entries.map(([number, label]) => {
        stage.method = number;
        const layer = stage.layer();
        const canvas = element("canvas", { width, height, "aria-hidden": "true" });
        const pen = canvas.getContext("2d");
        pen.drawImage(layer || grey, 0, 0);
        const key = number === AGREEMENT ? "a" : number < 9 ? String(number + 1) : "";
        const title = (layer ? label : `${label}: no map`) + (key ? ` (${key})` : "");
        const button = element("button", { type: "button", className: "map", role: "radio", title }, canvas, element("span", {}, label));
        button.dataset.method = number;
        button.onclick = () => this.choose(number);
        return button;
      }),
    );
    stage.method = chosen;
  },

  // Everything that changes with the switches.
  show() {
    const map = stage.map;
    for (const button of all("#maps .map")) {
      button.setAttribute("aria-checked", String(Number(button.dataset.method) === stage.method));
    }
    $("#overlay").setAttribute("aria-pressed", String(stage.overlay));
    $("#outlines").setAttribute("aria-pressed", String(stage.outlines && Boolean(stage.plane)));
    $("#outlines").disabled = !stage.plane;
    $("#opacity").value = Math.round(100 * stage.opacity);
    $("#opacity-value").textContent = `${Math.round(100 * stage.opacity)}%`;
    const what = stage.method === AGREEMENT ? "where two methods agree" : `${INDEX.methods[stage.method].label} map`;
    $("#canvas").setAttribute("aria-label", `${INDEX.ids[this.image]} with ${stage.overlay ? what : "no overlay"}`);
    this.showScale(map);
    this.showWeights(map);
    stage.draw();
  },

  showScale(map) {
    const scale = $("#scale");
    if (stage.method === AGREEMENT) {
      const iou = fixed(filters.value("iou", this.image), 3);
      const parts = [
        [INDEX.marks.first, `only ${INDEX.methods[filters.first].label} (${INDEX.methods[filters.first].rule})`],
        [INDEX.marks.second, `only ${INDEX.methods[filters.second].label} (${INDEX.methods[filters.second].rule})`],
        [INDEX.marks.both, `both: IoU ${iou}`],
      ];
      const legend = parts.map(([color, text]) => {
        const swatch = drawn("svg", { class: "swatch" });
        swatch.append(drawn("rect", { width: "100%", height: "100%", fill: color }));
        return element("span", {}, swatch, text);
      });
      scale.replaceChildren(element("div", { className: "legend" }, ...legend));
      return;
    }
    if (!map) {
      scale.replaceChildren("no map of this method");
      return;
    }
    const positive = INDEX.methods[stage.method].kind === "positive";
    const table = positive ? COLORS.positive : COLORS.signed;
    const strip = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) strip.data.set([...table.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    const ends = positive ? ["0", "1"] : [signedText(-map.limit), "0", signedText(map.limit)];
    scale.replaceChildren(
      context(256, 1).put(strip),
      element("div", { className: "ends" }, ...ends.map((text) => element("span", {}, text))),
    );
  },

  showWeights(map) {
    $("#weights-box").hidden = !map?.weights;
    if (!map?.weights) return;
    const order = map.weights.map((weight, label) => [Math.abs(weight || 0), label]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    $("#weights").replaceChildren(
      ...order.slice(0, 10).map(([size, label]) => {
        const weight = map.weights[label] ?? 0;
        const bar = drawn("svg", { "aria-hidden": "true" });
        const width = `${map.limit > 0 ? (100 * size) / map.limit : 0}%`;
        bar.append(drawn("rect", { width, height: "100%", rx: 2, class: weight < 0 ? "minus" : "plus" }));
        const value = element("span", { className: "value" }, signedText(weight));
        const button = element("button", { type: "button", title: stage.describe(map, label) }, element("span", {}, `#${label}`), bar, value);
        button.onmouseenter = button.onfocus = () => this.mark(label);
        button.onmouseleave = button.onblur = () => this.mark(null);
        return element("li", {}, button);
      }),
    );
  },

  mark(label) {
    if (stage.marked === label) return;
    stage.marked = label;
    stage.draw();
  },

  point(event) {
    const box = $("#canvas").getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (!stage.image || x < 0 || y < 0 || x >= 1 || y >= 1) return;
    const { text, label } = stage.at(x, y);
    const tip = $("#tip");
    tip.hidden = !text;
    tip.textContent = text;
    const room = $("#stage").getBoundingClientRect();
    const left = Math.min(event.clientX - room.left + 14, room.width - tip.offsetWidth - 4);
    const above = event.clientY - room.top - tip.offsetHeight - 12;
    tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, above)}px)`;
    this.mark(label);
  },

  leave() {
    $("#tip").hidden = true;
    this.mark(null);
  },
};

function listenToViewer() {
  $("#close").onclick = () => viewer.close();
  $("#previous").onclick = () => viewer.step(-1);
  $("#next").onclick = () => viewer.step(1);
  $("#viewer").onclose = () => gallery.focus(viewer.place);
  $("#opacity").oninput = (event) => {
    stage.opacity = Number(event.target.value) / 100;
    stage.overlay = true;
    viewer.show();
  };
  $("#overlay").onclick = () => {
    stage.overlay = !stage.overlay;
    viewer.show();
  };
  $("#outlines").onclick = () => {
    stage.outlines = !stage.outlines;
    viewer.show();
  };
  $("#canvas").onpointermove = (event) => viewer.point(event);
  $("#canvas").onpointerdown = (event) => viewer.point(event);
  $("#canvas").onpointerleave = () => viewer.leave();
  new ResizeObserver(() => viewer.isOpen && stage.draw()).observe($("#stage"));
}

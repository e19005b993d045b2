"use strict";
// The data that lies in the page as JSON and packed text, and the small helpers that everything else uses.
// Text from the run only ever becomes text nodes and attributes, never markup.

const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

function drawn(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// fastxai/report/encode.py packs what these unpack.
const unpacked = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const floats = (text) => new Float32Array(unpacked(text).buffer);

async function inflated(text) {
  const stream = new Blob([unpacked(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function bitmap(text) {
  return createImageBitmap(new Blob([unpacked(text)], { type: "image/webp" }));
}

async function labelsOf(plane) {
  const [height, width] = plane.size;
  const bytes = await inflated(plane.data);
  const count = height * width;
  const labels = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    labels[i] = bytes[i] + 256 * bytes[count + i] + (i < width ? 0 : labels[i - width]);
  }
  return { height, width, labels };
}

async function maskOf(plane) {
  const [height, width] = plane.size;
  const bytes = await inflated(plane.data);
  const mask = new Uint8Array(height * width);
  for (let i = 0; i < mask.length; i++) mask[i] = (bytes[i >> 3] >> (7 - (i & 7))) & 1;
  return { height, width, mask };
}

// Blocks of images stand behind the scripts: the page works while the rest of a large file is still being read.
const parsed = new Promise((done) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => done(), { once: true });
  else done();
});

async function block(name) {
  let node = document.getElementById(name);
  if (!node || (document.readyState === "loading" && !node.nextElementSibling)) {
    await parsed;
    node = document.getElementById(name);
  }
  return node ? JSON.parse(node.textContent) : null;
}

const INDEX = JSON.parse($("#index").textContent);
const COUNT = INDEX.ids.length;
const PAIRS = INDEX.pairs.length;
const IOU = floats(INDEX.iou);
const CORRELATION = floats(INDEX.correlation);
const COLORS = { signed: unpacked(INDEX.colors.signed), positive: unpacked(INDEX.colors.positive) };

const className = (number) => (INDEX.names && INDEX.names[number]) || `class ${number}`;
const firstName = (number) => className(number).split(",")[0].trim() || className(number);
const fixed = (value, digits) => (value === null || Number.isNaN(value) ? "–" : value.toFixed(digits));
const grouped = (number) => number.toLocaleString("en");

function signedText(value, digits = 3) {
  const sign = value > 0 ? "+" : value < 0 ? "−" : "";
  return sign + Number(Math.abs(value).toPrecision(digits)).toString();
}

function pairNumber(a, b) {
  return INDEX.pairs.findIndex(([first, second]) => (first === a && second === b) || (first === b && second === a));
}

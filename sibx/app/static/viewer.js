// Draws maps over their picture. props.value is JSON, as `_cells.py` makes it.
const bar = element.querySelector(".opacity"), whole = element.querySelector(".whole");
const rows = element.querySelector(".rows"), key = element.querySelector(".key");
let shown = [], picture = null;

const bytes = (text) => { // a loop: `Uint8Array.from` with a function takes ten times as long
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
};

const colored = (cell, scale) => { // the map in colors, at its own size
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [cell.width, cell.height];
  const image = new ImageData(cell.width, cell.height), pixels = new Uint32Array(image.data.buffer);
  const step = (cell.high / scale.high) * (255 / 65535);
  cell.values = new Uint16Array(bytes(cell.data).buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = scale.colors[Math.min(255, Math.round(cell.values[i] * step))];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
};

const paint = () => {
  for (const { cell, canvas } of shown) {
    const context = canvas.getContext("2d");
    context.filter = cell.map ? "grayscale(1)" : "none";
    context.globalAlpha = 1;
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    context.filter = "none";
    if (!cell.map) continue;
    context.globalAlpha = Number(bar.value) / 100;
    context.drawImage(cell.map, 0, 0, canvas.width, canvas.height);
  }
};

const point = (event) => { // what every map says where the pointer is
  const box = event.currentTarget.getBoundingClientRect();
  const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
  for (const { cell, value } of shown) {
    if (!cell.map) continue;
    const x = Math.min(cell.width - 1, Math.max(0, Math.floor(across * cell.width)));
    const y = Math.min(cell.height - 1, Math.max(0, Math.floor(down * cell.height)));
    value.textContent = ((cell.values[y * cell.width + x] / 65535) * cell.high).toFixed(2);
  }
};

const node = (name, text, kind) => {
  const made = document.createElement(name);
  if (text) made.textContent = text; // text, never HTML: names come from anywhere
  if (kind) made.className = kind;
  return made;
};

const figure = (cell, told) => {
  const made = node("figure"), caption = node("figcaption"), canvas = node("canvas");
  [canvas.width, canvas.height] = [told.width, told.height];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", cell.title);
  canvas.addEventListener("pointermove", point);
  const value = node("output");
  caption.append(node("span", cell.title), value);
  if (cell.problem) caption.append(node("em", cell.problem));
  made.append(canvas, caption);
  shown.push({ cell, canvas, value });
  return made;
};

const build = async () => {
  if (!props.value) { // a question without an answer
    rows.replaceChildren();
    shown = [];
    return;
  }
  const told = JSON.parse(props.value), scale = { ...told.scale, colors: new Uint32Array(bytes(told.scale.colors).buffer) };
  if (picture?.src !== told.picture) {
    const image = new Image();
    image.src = told.picture;
    const asked = props.value;
    await image.decode();
    if (props.value !== asked) return; // another answer came meanwhile
    picture = image;
  }
  shown = [];
  rows.replaceChildren(...told.rows.map((row) => {
    const line = node("section"), cells = node("div", "", "cells");
    for (const cell of row.cells) if (cell.data) cell.map = colored(cell, scale);
    cells.append(...row.cells.map((cell) => figure(cell, told)));
    line.append(node("h3", row.title), cells);
    return line;
  }));
  key.querySelector("i").style.background = `linear-gradient(to right, ${told.scale.stops.join(",")})`;
  key.querySelector("b").textContent = scale.high.toFixed(1);
  paint();
  element.dataset.drawn = told.serial; // which of the answers is seen
};

bar.addEventListener("input", paint);
whole.addEventListener("change", () => rows.classList.toggle("full", whole.checked));
watch("value", build);
build();

// Strokes on a picture. props.value is JSON: [{size, points: [[x, y], ...], of}, ...] in shares of the picture's width;
// `of` is the picture's number: the server may know another one already when a stroke ends.
const canvas = element.querySelector("canvas"), brush = element.querySelector(".brush");
const STEP = 0.02; // of the width, that an arrow key moves the brush
const FINE = 480; // pixels of the canvas at least, so that the brush is round on a small picture
const DOT = 1e-4; // a line without any length is not drawn
let picture = null, of = 0, strokes = [], drawing = null, cursor = null;

const size = () => Number(brush.value) / 100;

const paint = () => {
  if (!picture) return;
  const context = canvas.getContext("2d"), width = canvas.width;
  context.globalAlpha = 1;
  context.drawImage(picture, 0, 0, width, canvas.height);
  const layer = document.createElement("canvas");
  [layer.width, layer.height] = [width, canvas.height];
  const pen = layer.getContext("2d");
  [pen.lineCap, pen.lineJoin, pen.strokeStyle] = ["round", "round", "#e6007e"];
  for (const stroke of [...strokes, ...(drawing ? [drawing] : [])]) {
    pen.lineWidth = Math.max(1, stroke.size * width);
    pen.beginPath();
    const [first, ...others] = stroke.points;
    pen.moveTo(first[0] * width, first[1] * width);
    for (const [x, y] of others.length ? others : [[first[0] + DOT, first[1]]]) pen.lineTo(x * width, y * width);
    pen.stroke();
  }
  context.globalAlpha = 0.6;
  context.drawImage(layer, 0, 0);
  if (!cursor) return;
  context.globalAlpha = 1;
  context.lineWidth = 2;
  context.strokeStyle = "#e6007e";
  context.beginPath();
  context.arc(cursor[0] * width, cursor[1] * width, Math.max(3, (size() * width) / 2), 0, 2 * Math.PI);
  context.stroke();
};

const send = () => {
  paint();
  props.value = JSON.stringify(strokes);
  trigger("input");
};
const undo = () => { strokes.pop(); send(); };
const clear = () => { strokes = []; send(); };

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width];
};

canvas.addEventListener("pointerdown", (event) => {
  if (!picture) return;
  canvas.setPointerCapture(event.pointerId);
  cursor = null;
  drawing = { size: size(), points: [place(event)], of };
  paint();
});
canvas.addEventListener("pointermove", (event) => {
  if (!drawing) return;
  drawing.points.push(place(event));
  paint();
});
const end = () => {
  if (!drawing) return;
  strokes.push(drawing);
  drawing = null;
  send();
};
canvas.addEventListener("pointerup", end);
canvas.addEventListener("pointercancel", end);

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  if (!picture) return;
  cursor ??= [0.5, canvas.height / canvas.width / 2];
  const move = MOVES[event.key];
  if (move) cursor = cursor.map((c, i) => Math.min([1, canvas.height / canvas.width][i], Math.max(0, c + STEP * move[i])));
  else if (event.key === "Enter" || event.key === " ") { strokes.push({ size: size(), points: [cursor], of }); send(); }
  else if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  else return;
  event.preventDefault();
  paint();
});
element.querySelector(".undo").addEventListener("click", undo);
element.querySelector(".clear").addEventListener("click", clear);

const load = async () => {
  if (!props.picture) return;
  const image = new Image(), asked = props.picture, number = props.of;
  image.src = asked;
  await image.decode();
  if (props.picture !== asked || props.of !== number) return; // another one came meanwhile
  [picture, of, strokes, drawing, cursor] = [image, number, [], null, null];
  const scale = Math.ceil(FINE / image.naturalWidth);
  [canvas.width, canvas.height] = [scale * image.naturalWidth, scale * image.naturalHeight];
  paint();
  element.dataset.of = of; // which picture is seen
};
watch(["picture", "of"], load);
load();

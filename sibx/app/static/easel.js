// The drawing board. Every stroke is sent when it ends, and what is seen is what the server has kept.
const one = (selector) => element.querySelector(selector), all = (selector) => [...element.querySelectorAll(selector)];
const canvas = one("canvas"), size = one(".size"), number = one(".number"), rest = one(".rest");
const COLORS = { true: "#009e73", false: "#d55e00" };
let told = null, image = null, overlay = null; // what the server said, and its two pictures
let here = true, tool = "brush", way = [], corner = null, cursor = null; // way: of the stroke that is being drawn
let waiting = Promise.resolve(), sending = [];
let going = null; // {turn} of the picture that was asked for and is not seen yet: till then nothing is drawn
let upset = 0; // how often what is seen became otherwise than by what was asked: what was asked before that is void
// props.order is JSON, the numbers of the pictures in their order; "" = all as they come.
const places = () => (props.order ? JSON.parse(props.order) : null);
const count = () => places()?.length ?? told.pictures;
const turn = () => (told ? (places()?.indexOf(told.picture) ?? told.picture) : 0); // which of them is seen

const decoded = async (address) => {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  return picture;
};

const draw = (context, stroke) => {
  context.strokeStyle = context.fillStyle = COLORS[stroke.here];
  const [first, ...others] = stroke.points;
  if (stroke.kind === "box") {
    const last = others[0] ?? first;
    context.fillRect(first[0], first[1], last[0] - first[0], last[1] - first[1]);
    return;
  }
  [context.lineCap, context.lineJoin, context.lineWidth] = ["round", "round", stroke.size];
  context.beginPath();
  context.moveTo(...first);
  const dot = [first[0] + 0.01, first[1]]; // a line without any length is not drawn
  for (const point of others.length ? others : [dot]) context.lineTo(...point);
  context.stroke();
};

const stroke = (points) => ({ kind: tool, here, points, ...(tool === "brush" ? { size: Number(size.value) } : {}) });

const paint = () => {
  if (!image) return;
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.drawImage(image, 0, 0);
  context.drawImage(overlay, 0, 0);
  context.globalAlpha = 0.5;
  for (const other of sending) draw(context, other);
  if (way.length) draw(context, stroke(way));
  context.globalAlpha = 1;
  if (!cursor) return;
  [context.lineWidth, context.strokeStyle] = [1, "#0072b2"];
  context.beginPath();
  if (tool === "box") context.rect(...(corner ?? cursor), cursor[0] - (corner ?? cursor)[0], cursor[1] - (corner ?? cursor)[1]);
  const radius = tool === "brush" ? Math.max(1, Number(size.value) / 2) : 2;
  context.moveTo(cursor[0] + radius, cursor[1]);
  context.arc(...cursor, radius, 0, 2 * Math.PI);
  context.stroke();
};

const show = async (answer) => {
  one(".problem").textContent = answer.problem;
  if (!answer.overlay) { // a picture that cannot be read
    [told, image] = [answer, null];
    number.value = turn() + 1;
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    one(".about").textContent = "";
    return;
  }
  overlay = await decoded(answer.overlay);
  if (answer.image) image = await decoded(answer.image);
  const other = told?.picture !== answer.picture, first = !told;
  told = answer;
  if (other) [way, corner, cursor] = [[], null, null];
  if (canvas.width !== image.naturalWidth) canvas.width = image.naturalWidth;
  if (canvas.height !== image.naturalHeight) canvas.height = image.naturalHeight;
  size.max = Math.max(2, Math.round(image.naturalWidth / 2));
  if (first) size.value = Math.max(1, Math.round(image.naturalWidth / 18));
  [number.value, number.max, rest.value] = [turn() + 1, count(), told.rest];
  one(".of").textContent = `of ${count()}; ${told.corrected} corrected`;
  one(".about").textContent = `${told.label} (${told.id}). ` + (told.missing || `Kept: ${told.strokes} stroke${told.strokes === 1 ? "" : "s"}.`);
  one(".undo").disabled = told.strokes === 0;
  [element.dataset.version, element.dataset.picture] = [told.version, told.picture];
  paint();
};

// One after the other, so that every stroke is drawn on the version before it.
const ask = (asked) => {
  if (going && asked.do !== "open") return waiting; // what is seen is not what it would change
  const before = upset;
  waiting = waiting.then(async () => {
    if (upset !== before && asked.do !== "open") return;
    try {
      const { picture = 0, version = 0 } = told ?? {};
      const answer = await server.draw({ picture, version, ...asked });
      sending = sending.filter((other) => other !== asked.stroke);
      if (answer.problem && answer.version !== version) [upset, sending] = [upset + 1, []]; // somebody else's
      await show(answer);
    } catch (error) {
      [upset, sending] = [upset + 1, []];
      one(".problem").textContent = "The server does not answer; what was drawn since is not kept.";
      paint();
    }
  });
  return waiting;
};

const send = (points) => {
  const drawn = stroke(points);
  [way, corner] = [[], null];
  if (!going) sending.push(drawn);
  paint();
  ask({ do: "stroke", stroke: drawn });
};
const undo = () => ask({ do: "undo" });
const open = async (wanted) => {
  const found = Math.max(0, Math.min(wanted, told ? count() - 1 : 0)), mine = (going = { turn: found });
  await ask({ do: "open", picture: places()?.[found] ?? found });
  if (going === mine) going = null;
};
const step = (by) => open((going?.turn ?? turn()) + by);
const choose = (which, value) => {
  if (which === "here") here = value === "true";
  else [tool, corner] = [value, null];
  for (const button of all(`[data-${which}]`)) button.setAttribute("aria-pressed", button.dataset[which] === value);
  paint();
};

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
};
canvas.addEventListener("pointerdown", (event) => {
  if (!image) return;
  canvas.setPointerCapture(event.pointerId);
  [cursor, way] = [null, [place(event)]];
  paint();
});
canvas.addEventListener("pointermove", (event) => {
  if (!way.length) return;
  way = tool === "box" ? [way[0], place(event)] : [...way, place(event)];
  paint();
});
canvas.addEventListener("pointerup", () => {
  if (tool === "box" && way.length < 2) way = [];
  if (way.length) send(way);
  paint();
});
canvas.addEventListener("pointercancel", () => { way = []; paint(); });

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = {
  h: () => choose("here", "true"), n: () => choose("here", "false"),
  b: () => choose("tool", "brush"), x: () => choose("tool", "box"),
  "[": () => { size.value = Number(size.value) - 1; }, "]": () => { size.value = Number(size.value) + 1; },
  PageUp: () => step(-1), PageDown: () => step(1),
  Escape: () => { corner = null; },
  Enter: () => {
    if (tool === "brush") send([cursor]);
    else if (corner) send([corner, cursor]);
    else corner = cursor;
  },
};
canvas.addEventListener("keydown", (event) => {
  if (!image) return;
  cursor ??= [canvas.width / 2, canvas.height / 2];
  const move = MOVES[event.key], far = event.shiftKey ? 10 : 1;
  if (move) cursor = cursor.map((c, i) => Math.min([canvas.width, canvas.height][i], Math.max(0, c + far * move[i])));
  else if (event.ctrlKey || event.metaKey) {
    if (event.key !== "z") return;
    undo();
  } else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
  paint();
});

for (const button of all("[data-here]")) button.addEventListener("click", () => choose("here", button.dataset.here));
for (const button of all("[data-tool]")) button.addEventListener("click", () => choose("tool", button.dataset.tool));
size.addEventListener("input", paint);
one(".undo").addEventListener("click", undo);
one(".back").addEventListener("click", () => step(-1));
one(".next").addEventListener("click", () => step(1));
number.addEventListener("change", () => open(Number(number.value) - 1));
rest.addEventListener("change", () => ask({ do: "rest", rest: rest.value }));
one(".mask").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  const reader = new FileReader(), meant = told?.picture;
  const read = new Promise((done, failed) => { [reader.onload, reader.onerror] = [done, failed]; });
  reader.readAsDataURL(file);
  await read;
  event.target.value = "";
  if (going || told?.picture !== meant) {
    one(".problem").textContent = "Another picture was opened while the mask was read: import it again there.";
    return;
  }
  ask({ do: "mask", mask: reader.result.split(",")[1] ?? "" });
});
for (const [value, words] of Object.entries(props.rests)) rest.add(new Option(words, value));
watch("order", () => open(0));
open(0);

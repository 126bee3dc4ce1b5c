// Painting a mask over a picture, with the mouse, a finger or numbers.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { Field, SegmentedControl, Slider } from "./components.js";
import { Picture } from "./pictures.js";

const MAX_SIDE = 1024; // pixels per side of the canvas; the mask itself has the size of the picture
const PRESETS = [["All", 0, 0, 1, 1], ["Lower half", 0, 0.5, 1, 0.5], ["Right half", 0.5, 0, 0.5, 1], ["Middle", 0.25, 0.25, 0.5, 0.5]];
const SIDES = [["x", "Left"], ["y", "Top"], ["width", "Width"], ["height", "Height"]];

const contextOf = canvas => canvas.getContext("2d", { willReadFrequently: true });

function paintStroke(canvas, from, to, radius, erase, tint) {
  const context = contextOf(canvas);
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.fillStyle = tint;
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(0.4, radius / 3)));
  for (let step = 0; step <= steps; step++) {
    const x = from.x + (to.x - from.x) * step / steps, y = from.y + (to.y - from.y) * step / steps;
    for (let row = Math.floor(y - radius); row <= y + radius; row++) {
      const reach = radius <= 0.5 ? (row === Math.floor(y) ? 0.5 : -1) : Math.sqrt(Math.max(0, radius ** 2 - (row + 0.5 - y) ** 2));
      if (reach < 0) continue;
      const first = radius <= 0.5 ? Math.floor(x) : Math.round(x - reach), last = radius <= 0.5 ? first + 1 : Math.round(x + reach);
      context.clearRect(first, row, last - first, 1); // so that overlapping strokes do not add up
      if (!erase) context.fillRect(first, row, last - first, 1);
    }
  }
}

// The mask as a picture of the given size, white where it is painted and black elsewhere; null if nothing is painted.
export async function maskOf(canvas, { width, height }) {
  const mask = document.createElement("canvas");
  mask.width = width;
  mask.height = height;
  const context = contextOf(mask);
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height), values = pixels.data;
  let isPainted = false;
  for (let offset = 0; offset < values.length; offset += 4) {
    const shade = values[offset + 3] > 0 ? 255 : 0;
    isPainted ||= shade > 0;
    values.set([shade, shade, shade, 255], offset);
  }
  context.putImageData(pixels, 0, 0);
  return isPainted ? new Promise(resolve => mask.toBlob(resolve, "image/png")) : null;
}

// Paint the white part of an earlier mask.
async function restoreMask(canvas, id, tint) {
  const image = new Image();
  image.src = `/api/files/${id}/content`;
  await image.decode();
  const context = contextOf(canvas), { width, height } = canvas;
  context.globalCompositeOperation = "source-over";
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height), values = pixels.data;
  for (let offset = 0; offset < values.length; offset += 4) values[offset + 3] = values[offset] > 127 ? 255 : 0;
  context.putImageData(pixels, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = tint;
  context.fillRect(0, 0, width, height);
}

// The margins that are cut off a picture to give it the model's aspect ratio, as shares of its width and height.
function cutMargins(picture, model) {
  const ratio = picture.width / picture.height / (model.width / model.height);
  if (model.card.settings?.fit !== "cut" || Math.abs(ratio - 1) < 0.01) return null;
  return ratio > 1 ? { x: (1 - 1 / ratio) / 2, y: 0 } : { x: 0, y: (1 - ratio) / 2 };
}

const CutEdge = props => html`<span class="edge" style=${props}></span>`;

export function MaskPainter({ picture, canvas, model, previous, fault, children }) {
  const [tool, setTool] = useState("paint"), [size, setSize] = useState(10), [box, setBox] = useState({ x: 25, y: 25, width: 50, height: 50 });
  const [message, setMessage] = useState("");
  const lastPoint = useRef(null);
  const shrink = Math.min(1, MAX_SIDE / Math.max(picture.width, picture.height));
  const width = Math.max(1, Math.round(picture.width * shrink)), height = Math.max(1, Math.round(picture.height * shrink));
  const tint = getComputedStyle(document.documentElement).getPropertyValue("--c2").trim();

  const margins = cutMargins(picture, model), percent = share => `${100 * share}%`;

  useEffect(() => {
    setMessage("");
    if (previous) restoreMask(canvas.current, previous, tint).catch(() => setMessage("The earlier mask no longer exists."));
  }, [picture.id, previous]);
  const pointOf = event => {
    const bounds = canvas.current.getBoundingClientRect();
    return { x: (event.clientX - bounds.left) / bounds.width * width, y: (event.clientY - bounds.top) / bounds.height * height };
  };
  const radius = Math.max(0.5, size / 200 * Math.max(width, height));
  const paintTo = point => {
    paintStroke(canvas.current, lastPoint.current ?? point, point, radius, tool === "erase", tint);
    lastPoint.current = point;
  };
  const onDown = event => {
    event.preventDefault();
    canvas.current.setPointerCapture(event.pointerId);
    lastPoint.current = null;
    paintTo(pointOf(event));
  };
  const onMove = event => lastPoint.current && paintTo(pointOf(event));
  const onUp = () => { lastPoint.current = null; };
  const fill = (x, y, boxWidth, boxHeight) => {
    const context = contextOf(canvas.current), area = [Math.round(x * width), Math.round(y * height), Math.round(boxWidth * width), Math.round(boxHeight * height)];
    context.globalCompositeOperation = "source-over";
    context.fillStyle = tint;
    context.clearRect(...area);
    context.fillRect(...area);
    setMessage("A rectangle was added to the mask.");
  };
  const clear = () => {
    contextOf(canvas.current).clearRect(0, 0, width, height);
    setMessage("The mask is empty.");
  };
  return html`<div class="card painting"><div class="mask"><${Picture} src=${picture.url} alt="The picture below the mask" />
      ${margins && (margins.x ? [html`<${CutEdge} width=${percent(margins.x)} />`, html`<${CutEdge} width=${percent(margins.x)} left="auto" />`]
        : [html`<${CutEdge} height=${percent(margins.y)} />`, html`<${CutEdge} height=${percent(margins.y)} top="auto" />`])}
      <canvas ref=${canvas} width=${width} height=${height} role="img" aria-label="Paint the part to fill here, or add rectangles by numbers below" key=${picture.id}
        onPointerDown=${onDown} onPointerMove=${onMove} onPointerUp=${onUp} onPointerCancel=${onUp}></canvas></div><div class="cards">
    <${SegmentedControl} label="Brush" options=${[["paint", "Paint"], ["erase", "Erase"]]} value=${tool} onChange=${setTool} />
    <${Slider} label="Brush width" name="size" min="1" max="40" value=${size} display=${`${size} %`} onInput=${event => setSize(Number(event.target.value))} />
    <p class="chips">${PRESETS.map(([name, ...sides]) => html`<button type="button" class="chip" key=${name} onClick=${() => fill(...sides)}>${name}</button>`)}
      <button type="button" class="chip" onClick=${clear}>Clear</button></p>
    <details><summary>Rectangle by numbers</summary><div class="numbers">${SIDES.map(([key, label]) => html`<${Field} key=${key} label=${label} name=${key} type="number" min="0" max="100"
        value=${box[key]} onInput=${event => setBox({ ...box, [key]: Number(event.target.value) })} />`)}</div>
      <p class="hint">In percent of the picture.</p>
      <button type="button" onClick=${() => fill(box.x / 100, box.y / 100, box.width / 100, box.height / 100)}>Add rectangle</button></details>
    ${margins && html`<p class="hint">Only the bright middle is used: the model draws ${model.width} × ${model.height} pixels.</p>`}
    ${fault?.field === "mask" && html`<p class="alarm" role="alert">${fault.message}</p>`}
    ${children}<p class="unseen" role="status">${message}</p></div></div>`;
}

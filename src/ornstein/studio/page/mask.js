// A mask that is painted over a picture, with the mouse, a finger or numbers.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { Field, Segments, Slider } from "./parts.js";
import { Picture } from "./pictures.js";

const MOST = 1024; // pixels a side of what is painted on; the mask itself has the picture's own
const PRESETS = [["All", 0, 0, 1, 1], ["Lower half", 0, 0.5, 1, 0.5], ["Right half", 0.5, 0, 0.5, 1], ["Middle", 0.25, 0.25, 0.5, 0.5]];
const SIDES = [["x", "Left"], ["y", "Top"], ["width", "Width"], ["height", "Height"]];

function stroke(canvas, from, to, radius, erase, tint) {
  const pen = canvas.getContext("2d");
  pen.globalCompositeOperation = erase ? "destination-out" : "source-over";
  pen.fillStyle = tint;
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(0.4, radius / 3)));
  for (let step = 0; step <= steps; step++) {
    const x = from.x + (to.x - from.x) * step / steps, y = from.y + (to.y - from.y) * step / steps;
    for (let row = Math.floor(y - radius); row <= y + radius; row++) {
      const reach = radius <= 0.5 ? (row === Math.floor(y) ? 0.5 : -1) : Math.sqrt(Math.max(0, radius ** 2 - (row + 0.5 - y) ** 2));
      if (reach < 0) continue;
      const first = radius <= 0.5 ? Math.floor(x) : Math.round(x - reach), last = radius <= 0.5 ? first + 1 : Math.round(x + reach);
      pen.clearRect(first, row, last - first, 1); // laid on once, however often the brush comes by
      if (!erase) pen.fillRect(first, row, last - first, 1);
    }
  }
}

// What is painted, as a picture: white where it is to be filled, black elsewhere.
export async function maskOf(canvas, picture) {
  const whole = document.createElement("canvas");
  whole.width = picture.width;
  whole.height = picture.height;
  const pen = whole.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvas, 0, 0, whole.width, whole.height);
  const pixels = pen.getImageData(0, 0, whole.width, whole.height), values = pixels.data;
  let painted = 0;
  for (let at = 0; at < values.length; at += 4) {
    const white = values[at + 3] > 0 ? 255 : 0;
    painted += white;
    values.set([white, white, white, 255], at);
  }
  pen.putImageData(pixels, 0, 0);
  return painted ? new Promise(done => whole.toBlob(done, "image/png")) : null;
}

// What is left out of a picture that is cut to the shape of the model's: its width and height in parts of the whole.
function left(picture, model) {
  const shape = picture.width / picture.height / (model.width / model.height);
  if (model.card.settings?.fit !== "cut" || Math.abs(shape - 1) < 0.01) return null;
  return shape > 1 ? { wide: (1 - 1 / shape) / 2, high: 0 } : { wide: 0, high: (1 - shape) / 2 };
}

const Edge = props => html`<span class="edge" style=${props}></span>`;

export function Mask({ picture, canvas, model, fault, children }) {
  const [tool, setTool] = useState("paint"), [size, setSize] = useState(10), [box, setBox] = useState({ x: 25, y: 25, width: 50, height: 50 });
  const [said, setSaid] = useState("");
  const last = useRef(null);
  const shrink = Math.min(1, MOST / Math.max(picture.width, picture.height));
  const width = Math.max(1, Math.round(picture.width * shrink)), height = Math.max(1, Math.round(picture.height * shrink));
  const tint = getComputedStyle(document.documentElement).getPropertyValue("--c2").trim();

  const cut = left(picture, model), share = part => `${100 * part}%`;

  useEffect(() => setSaid(""), [picture.id]);
  const place = event => {
    const seen = canvas.current.getBoundingClientRect();
    return { x: (event.clientX - seen.left) / seen.width * width, y: (event.clientY - seen.top) / seen.height * height };
  };
  const radius = Math.max(0.5, size / 200 * Math.max(width, height));
  const down = event => {
    event.preventDefault();
    canvas.current.setPointerCapture(event.pointerId);
    last.current = place(event);
    stroke(canvas.current, last.current, last.current, radius, tool === "erase", tint);
  };
  const move = event => {
    if (!last.current) return;
    const to = place(event);
    stroke(canvas.current, last.current, to, radius, tool === "erase", tint);
    last.current = to;
  };
  const fill = (x, y, wide, high) => {
    const pen = canvas.current.getContext("2d"), at = [Math.round(x * width), Math.round(y * height), Math.round(wide * width), Math.round(high * height)];
    pen.globalCompositeOperation = "source-over";
    pen.fillStyle = tint;
    pen.clearRect(...at);
    pen.fillRect(...at);
    setSaid("A rectangle was added to the mask.");
  };
  const clear = () => {
    canvas.current.getContext("2d").clearRect(0, 0, width, height);
    setSaid("The mask is empty.");
  };
  return html`<div class="card painting"><div class="mask"><${Picture} src=${picture.url} alt="The picture below the mask" />
      ${cut && (cut.wide ? [html`<${Edge} width=${share(cut.wide)} />`, html`<${Edge} width=${share(cut.wide)} left="auto" />`]
        : [html`<${Edge} height=${share(cut.high)} />`, html`<${Edge} height=${share(cut.high)} top="auto" />`])}
      <canvas ref=${canvas} width=${width} height=${height} role="img" aria-label="Paint here what is to be filled; rectangles by numbers are below" key=${picture.id}
        onPointerDown=${down} onPointerMove=${move} onPointerUp=${() => { last.current = null; }} onPointerCancel=${() => { last.current = null; }}></canvas></div><div class="cards">
    <${Segments} label="Brush" options=${[["paint", "Paint"], ["erase", "Erase"]]} value=${tool} onChange=${setTool} />
    <${Slider} label="Width of the brush" name="size" min="1" max="40" value=${size} shown=${`${size} %`} onInput=${event => setSize(Number(event.target.value))} />
    <p class="chips">${PRESETS.map(([name, ...sides]) => html`<button type="button" class="chip" key=${name} onClick=${() => fill(...sides)}>${name}</button>`)}
      <button type="button" class="chip" onClick=${clear}>Clear</button></p>
    <details><summary>A rectangle by numbers</summary><div class="numbers">${SIDES.map(([key, label]) => html`<${Field} key=${key} label=${label} name=${key} type="number" min="0" max="100"
        value=${box[key]} onInput=${event => setBox({ ...box, [key]: Number(event.target.value) })} />`)}</div>
      <p class="said">In per cent of the picture.</p>
      <button type="button" onClick=${() => fill(box.x / 100, box.y / 100, box.width / 100, box.height / 100)}>Add the rectangle</button></details>
    ${cut && html`<p class="said">Only the bright middle is used: the model draws ${model.width} × ${model.height} pixels.</p>`}
    ${fault?.field === "mask" && html`<p class="alarm" role="alert">${fault.message}</p>`}
    ${children}<p class="unseen" role="status">${said}</p></div></div>`;
}

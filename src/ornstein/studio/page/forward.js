// Forward: a picture of one's own turns into noise, with every law of section 20.1 beside it.
import { html, useEffect, useMemo, useState } from "./vendor/preact.js";
import { ask, query, short, useLatest, chance } from "./api.js";
import { Chart } from "./chart.js";
import { EQUATIONS } from "./equations.js";
import { Alarm, Code, Empty, Field, Head, Slider } from "./parts.js";
import { DrawOne, Picture, Well } from "./pictures.js";

const SECONDS = 7; // that the chain takes to be played
const EDGES = [-4, 4];
const fixed = value => value.toFixed(3).replace("-", "−");

// An equation with its number in the book, and the line of Python that computes it.
const Law = ({ name, number, python }) => html`
  <div class="equation"><div dangerouslySetInnerHTML=${{ __html: EQUATIONS[name] }}></div><span class="number" title="in Bishop & Bishop, Deep Learning (2024)">${number}</span></div>
  ${python && html`<${Code} label="Python" text=${python} />`}`;

function usePlay(t, setT) {
  const [playing, setPlaying] = useState(false);
  useEffect(() => {
    if (!playing) return undefined;
    const begun = performance.now(), from = t >= 1 ? 0 : t;
    let frame = requestAnimationFrame(function step(now) {
      const next = Math.min(1, from + (now - begun) / 1000 / SECONDS);
      setT(Number(next.toFixed(3)));
      if (next >= 1) setPlaying(false);
      else frame = requestAnimationFrame(step);
    });
    return () => cancelAnimationFrame(frame);
  }, [playing]);
  return [playing, setPlaying];
}

function Time({ t, setT, playing, setPlaying }) {
  const moved = event => { setPlaying(false); setT(Number(event.target.value)); };
  return html`<div class="time"><button type="button" class="main" onClick=${() => setPlaying(!playing)}>${playing ? "Pause" : "Play"}</button>
    <input type="range" min="0" max="1" step="0.005" value=${t} aria-label="Time t, from the picture at 0 to noise at 1" onInput=${moved} />
    <output>t = ${t.toFixed(3)}</output></div>`;
}

// A picture of which a pixel is chosen; the numbers beside it do the same by keyboard.
function Pixels({ src, alt, model, pixel, onPick }) {
  const { width, height } = model;
  const picked = event => {
    const box = event.currentTarget.getBoundingClientRect();
    const at = (place, start, side, count) => Math.max(0, Math.min(count - 1, Math.floor((place - start) / side * count)));
    onPick({ row: at(event.clientY, box.top, box.height, height), column: at(event.clientX, box.left, box.width, width) });
  };
  return html`<div class=${onPick ? "pixels pick" : "pixels"} onClick=${onPick && picked}><${Picture} src=${src} alt=${alt} />
    ${width && html`<span class="ring" style=${{ left: `${100 * pixel.column / width}%`, top: `${100 * pixel.row / height}%`, width: `${100 / width}%`, height: `${100 / height}%` }}></span>`}</div>`;
}

function Noised({ answer, model, t, pixel, onPick, onOther }) {
  const now = answer.value;
  return now && html`<div class="pair"><figure><${Pixels} src=${now.clean} alt="The picture, x" model=${model} pixel=${pixel} onPick=${onPick} /><figcaption class="plain">x, as the model sees it</figcaption></figure>
      <figure><${Pixels} src=${now.image} alt=${`The picture at time ${t}`} model=${model} pixel=${pixel} onPick=${onPick} /><figcaption class="plain">z, at time t</figcaption></figure></div>
    <p class="row reading"><span><b>${fixed(now.signal)}</b> of the picture, noise of deviation <b>${fixed(now.noise)}</b></span><button type="button" class="quiet" onClick=${onOther}>Other noise</button></p>
    <${Law} name="draw" number="(20.8)" python=${now.python} />`;
}

function Histogram({ answer, t }) {
  const { edges, counts } = answer.value?.histogram ?? {};
  const middle = useMemo(() => edges?.slice(1).map((edge, place) => (edge + edges[place]) / 2), [answer.value]);
  return counts && html`<${Chart} label=${`Histogram of the values of z at time ${t}`} x=${middle} bars lines=${[{ y: counts, ink: "--c1" }]}
      xRange=${EDGES} yRange=${[0, Math.max(...counts) * 1.06]} height=${150} xLabel="values of z" />
    <p class="reading">At first the picture's own shades, from −1 (black) to 1 (white); at t = 1 a bell, whatever the picture was.</p>`;
}

function Levels({ schedule, t, now }) {
  if (!schedule) return null;
  return html`<div class="card"><h2>How much is left</h2>
    <${Chart} label="Signal and noise over time" x=${schedule.t} lines=${[{ name: "signal", y: schedule.signal, ink: "--c1" }, { name: "noise", y: schedule.noise, ink: "--c2" }]}
      marks=${[{ x: t, ink: "--c3", dot: [now?.signal, now?.noise] }]} xRange=${[0, 1]} xLabel="t" />
    <${Law} name=${schedule.schedule in EQUATIONS ? schedule.schedule : "levels"} number="(20.7), (20.8)" python=${schedule.python} /></div>
  <div class="card"><h2>Log signal-to-noise ratio</h2>
    <${Chart} label="Log signal-to-noise ratio over time" x=${schedule.t} lines=${[{ y: schedule.log_snr, ink: "--c1" }]} marks=${[{ x: t, ink: "--c3", dot: [now?.log_snr] }]} xRange=${[0, 1]} xLabel="t" height=${192} />
    <p class="reading">λ = <b>${now ? (now.log_snr === null ? (t < 0.5 ? "∞" : "−∞") : short(now.log_snr)) : "…"}</b>. All that a network is told of t is this number.</p>
    <${Law} name="snr" number="from (20.7)" python="model.schedule.log_snr(t)" /></div>`;
}

const Density = ({ curve, label, marks }) => curve
  ? html`<${Chart} label=${label} x=${curve.value} lines=${[{ y: curve.density, ink: "--c1", filled: true }]} marks=${marks} yRange=${[0, Math.max(...curve.density) * 1.08]} height=${190} xLabel="value of the pixel" />`
  : html`<p class="note">A single point: there is no noise at this time.</p>`;

function Kernel({ answer, pixel, setPixel, model }) {
  const now = answer.value;
  return html`<div class="card"><h2>One pixel, given the picture</h2><${Alarm} fault=${answer.fault} fields=${["row", "column", "picture"]} />
    <div class="numbers">${[["row", -2], ["column", -1]].map(([name, side]) => html`<${Field} key=${name} label=${name === "row" ? "Row" : "Column"} name=${name} type="number" min="0" max=${(model.shape.at(side) ?? 1) - 1}
      fault=${answer.fault} value=${pixel[name]} onInput=${event => setPixel({ ...pixel, [name]: Math.max(0, Math.floor(Number(event.target.value)) || 0) })} />`)}</div>
    ${now && html`<${Density} curve=${now.curve} label=${`Density of the pixel: mean ${short(now.mean)}, variance ${short(now.variance)}`} marks=${[{ x: now.mean, ink: "--c3", dashed: true }, { x: now.x, ink: "--c2" }]} />
      <p class="reading">The pixel is <b>${fixed(now.x)}</b>; mean <b>${fixed(now.mean)}</b>, variance <b>${short(now.variance)}</b></p>
      <${Law} name="kernel" number=${now.equation} python=${now.python} />`}</div>`;
}

function Posterior({ answer, share, setShare, s }) {
  const now = answer.value;
  return html`<div class="card"><h2>One step back, were the picture known</h2><${Alarm} fault=${answer.fault} fields=${["row", "column", "picture"]} />
    <${Slider} label="Back to time s" name="s" min="0" max="0.99" step="0.01" value=${share} shown=${`s = ${s.toFixed(3)}`} onInput=${event => setShare(Number(event.target.value))} />
    ${now ? html`<${Density} curve=${now.curve} label=${`Density of the pixel at s: mean ${short(now.mean)}, variance ${short(now.variance)}`} marks=${[{ x: now.mean, ink: "--c3", dashed: true }, { x: now.x, ink: "--c2" }]} />
      <p class="reading">z at t is <b>${fixed(now.z)}</b>, x is <b>${fixed(now.x)}</b>; mean <b>${fixed(now.mean)}</b>, variance <b>${short(now.variance)}</b></p>
      <${Law} name="posterior" number="(20.15)–(20.17)" python=${now.python} />`
      : s === 0 && html`<p class="note">Move t above 0 first.</p>`}</div>`;
}

const Start = ({ model, onPicture }) => html`<${Empty} title=${model.kind === "picture" ? "Choose a picture" : "Choose a sample"}>
  <p>${model.kind === "picture" ? "Drop one of your own" : "Drop a .npy file of one sample"}, take one from the gallery, or have the model draw one. Then move time, and watch it go.</p>
  <${DrawOne} model=${model} onPick=${onPicture} /></${Empty}>`;

export function Forward({ model, handed, go }) {
  const [picture, setPicture] = useState(null), [t, setT] = useState(0.35), [share, setShare] = useState(0.5), [seed, setSeed] = useState(0);
  const [pixel, setPixel] = useState({ row: 0, column: 0 }), [schedule, setSchedule] = useState(null), [fault, setFault] = useState(null);
  const [playing, setPlaying] = usePlay(t, setT);
  useEffect(() => { if (handed?.picture) setPicture(handed.picture); }, [handed]);
  useEffect(() => {
    setSchedule(null);
    if (!model) return;
    setPixel({ row: Math.floor((model.height ?? 1) / 2), column: Math.floor((model.width ?? 1) / 2) });
    ask(`/api/forward/schedule?${query({ model: model.name })}`).then(setSchedule, setFault);
  }, [model?.name]);

  const s = Number((share * t).toFixed(4)), known = { model: model?.name, picture: picture?.id, t };
  const noised = useLatest(picture && model ? `/api/forward/noised?${query({ ...known, seed })}` : null);
  const kernel = useLatest(picture && model ? `/api/forward/kernel?${query({ ...known, ...pixel })}` : null);
  const posterior = useLatest(picture && model && t > 0 ? `/api/forward/posterior?${query({ ...known, s, ...pixel, seed })}` : null);

  if (!model) {
    return html`<${Head} title="From picture to noise">The forward process adds noise until nothing else is left.</${Head}>
      <${Empty} title="There is no model yet"><p>A model's schedule says how fast the noise comes. Train one first.</p><button type="button" class="main" onClick=${() => go("train")}>Train a model</button></${Empty}>`;
  }
  return html`<${Head} title="From picture to noise">Move time, and the picture goes. Every number stands beside its equation in chapter 20 of Bishop & Bishop, and the line of Python that computes it.</${Head}>
    <${Alarm} fault=${fault} />
    ${!picture && html`<div class="bench"><div class="controls"><${Well} model=${model} label="Picture" name="picture" onChange=${setPicture} /></div><${Start} model=${model} onPicture=${setPicture} /></div>`}
    ${picture && html`<div class="forward"><div class="aside"><${Time} t=${t} setT=${setT} playing=${playing} setPlaying=${setPlaying} />
        <div class="card"><${Alarm} fault=${noised.fault} /><${Noised} answer=${noised} model=${model} t=${t} pixel=${pixel} onPick=${model.width ? setPixel : null} onOther=${() => setSeed(chance())} /><${Histogram} answer=${noised} t=${t} />
          <${Well} model=${model} label="Another picture" name="picture" onChange=${setPicture} small /></div></div>
      <div class="laws"><${Levels} schedule=${schedule} t=${t} now=${noised.value} />
        <${Kernel} answer=${kernel} pixel=${pixel} setPixel=${setPixel} model=${model} />
        <${Posterior} answer=${posterior} share=${share} setShare=${setShare} s=${s} /></div></div>`}`;
}

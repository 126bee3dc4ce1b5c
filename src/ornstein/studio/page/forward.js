// Forward: a picture turns into noise, beside the equations of section 20.1.
import { html, useEffect, useMemo, useState } from "./vendor/preact.js";
import { fetchJson, formatNumber, query, randomSeed, useLatest } from "./api.js";
import { Chart } from "./chart.js";
import { EQUATIONS } from "./equations.js";
import { CodeLine, EmptyState, ErrorMessage, Field, PageHeader, Slider } from "./components.js";
import { DrawOne, Picture, PictureInput } from "./pictures.js";

const SECONDS = 7; // duration of the chain when it is played
const HISTOGRAM_RANGE = [-4, 4];
const formatFixed = value => value.toFixed(3).replace("-", "−");

// An equation with its number in the book, and the line of Python that computes it.
const Equation = ({ name, number, python }) => html`
  <div class="equation"><div dangerouslySetInnerHTML=${{ __html: EQUATIONS[name] }}></div><span class="number" title="in Bishop & Bishop, Deep Learning (2024)">${number}</span></div>
  ${python && html`<${CodeLine} label="Python" text=${python} />`}`;

function usePlay(t, setT) {
  const [playing, setPlaying] = useState(false);
  useEffect(() => {
    if (!playing) return undefined;
    const started = performance.now(), from = t >= 1 ? 0 : t;
    let frame = requestAnimationFrame(function step(now) {
      const next = Math.min(1, from + (now - started) / 1000 / SECONDS);
      setT(Number(next.toFixed(3)));
      if (next >= 1) setPlaying(false);
      else frame = requestAnimationFrame(step);
    });
    return () => cancelAnimationFrame(frame);
  }, [playing]);
  return [playing, setPlaying];
}

function Time({ t, setT, playing, setPlaying }) {
  const onInput = event => { setPlaying(false); setT(Number(event.target.value)); };
  return html`<div class="time"><button type="button" class="main" onClick=${() => setPlaying(!playing)}>${playing ? "Pause" : "Play"}</button>
    <input type="range" min="0" max="1" step="0.005" value=${t} aria-label="Time t, from the picture at 0 to noise at 1" onInput=${onInput} />
    <output>t = ${t.toFixed(3)}</output></div>`;
}

// A picture on which to choose a pixel; the numbers beside it do the same by keyboard.
function Pixels({ src, alt, model, pixel, onPick }) {
  const { width, height } = model;
  const onClick = event => {
    const box = event.currentTarget.getBoundingClientRect();
    const index = (share, count) => Math.max(0, Math.min(count - 1, Math.floor(share * count)));
    onPick({ row: index((event.clientY - box.top) / box.height, height), column: index((event.clientX - box.left) / box.width, width) });
  };
  return html`<div class=${onPick ? "pixels pick" : "pixels"} onClick=${onPick && onClick}><${Picture} src=${src} alt=${alt} />
    ${width && html`<span class="ring" style=${{ left: `${100 * pixel.column / width}%`, top: `${100 * pixel.row / height}%`, width: `${100 / width}%`, height: `${100 / height}%` }}></span>`}</div>`;
}

function Noised({ value, model, t, pixel, onPick, onReseed }) {
  return value && html`<div class="pair"><figure><${Pixels} src=${value.clean} alt="The picture, x" model=${model} pixel=${pixel} onPick=${onPick} /><figcaption class="plain">x, as the model sees it</figcaption></figure>
      <figure><${Pixels} src=${value.image} alt=${`The picture at time ${t}`} model=${model} pixel=${pixel} onPick=${onPick} /><figcaption class="plain">z at time t</figcaption></figure></div>
    <p class="row reading"><span>Signal <b>${formatFixed(value.signal)}</b>, noise <b>${formatFixed(value.noise)}</b></span><button type="button" class="quiet" onClick=${onReseed}>New noise</button></p>
    <${Equation} name="draw" number="(20.8)" python=${value.python} />`;
}

function Histogram({ value, t }) {
  const { edges, counts } = value?.histogram ?? {};
  const centres = useMemo(() => edges?.slice(1).map((edge, index) => (edge + edges[index]) / 2), [value]);
  return counts && html`<${Chart} label=${`Histogram of the values of z at time ${t}`} x=${centres} bars lines=${[{ y: counts, ink: "--c1" }]}
      xRange=${HISTOGRAM_RANGE} yRange=${[0, Math.max(...counts) * 1.06]} height=${150} xLabel="values of z" />
    <p class="reading">At t = 0, the values of the picture, from −1 (black) to 1 (white); at t = 1, a bell curve for any picture.</p>`;
}

function Levels({ schedule, t, level }) {
  if (!schedule) return null;
  return html`<div class="card"><h2>Signal and noise</h2>
    <${Chart} label="Signal and noise over time" x=${schedule.t} lines=${[{ name: "signal", y: schedule.signal, ink: "--c1" }, { name: "noise", y: schedule.noise, ink: "--c2" }]}
      marks=${[{ x: t, ink: "--c3", dots: [level?.signal, level?.noise] }]} xRange=${[0, 1]} xLabel="t" />
    <${Equation} name=${schedule.schedule in EQUATIONS ? schedule.schedule : "levels"} number="(20.7), (20.8)" python=${schedule.python} /></div>
  <div class="card"><h2>Log signal-to-noise ratio</h2>
    <${Chart} label="Log signal-to-noise ratio over time" x=${schedule.t} lines=${[{ y: schedule.log_snr, ink: "--c1" }]} marks=${[{ x: t, ink: "--c3", dots: [level?.log_snr] }]} xRange=${[0, 1]} xLabel="t" height=${192} />
    <p class="reading">λ = <b>${level ? (level.log_snr === null ? (t < 0.5 ? "∞" : "−∞") : formatNumber(level.log_snr)) : "…"}</b>. The network sees the time t only through this number.</p>
    <${Equation} name="snr" number="from (20.7)" python="model.schedule.log_snr(t)" /></div>`;
}

const Density = ({ curve, label, marks }) => curve
  ? html`<${Chart} label=${label} x=${curve.value} lines=${[{ y: curve.density, ink: "--c1", filled: true }]} marks=${marks} yRange=${[0, Math.max(...curve.density) * 1.08]} height=${190} xLabel="value of the pixel" />`
  : html`<p class="note">A single point: there is no noise at this time.</p>`;

function Kernel({ value, fault, pixel, setPixel, model }) {
  return html`<div class="card"><h2>One pixel of z, given x</h2><${ErrorMessage} fault=${fault} fields=${["row", "column", "picture"]} />
    <div class="numbers">${[["row", -2], ["column", -1]].map(([name, axis]) => html`<${Field} key=${name} label=${name === "row" ? "Row" : "Column"} name=${name} type="number" min="0" max=${(model.shape.at(axis) ?? 1) - 1}
      fault=${fault} value=${pixel[name]} onInput=${event => setPixel({ ...pixel, [name]: Math.max(0, Math.floor(Number(event.target.value)) || 0) })} />`)}</div>
    ${value && html`<${Density} curve=${value.curve} label=${`Density of the pixel: mean ${formatNumber(value.mean)}, variance ${formatNumber(value.variance)}`} marks=${[{ x: value.mean, ink: "--c3", dashed: true }, { x: value.x, ink: "--c2" }]} />
      <p class="reading">The pixel is <b>${formatFixed(value.x)}</b>; mean <b>${formatFixed(value.mean)}</b>, variance <b>${formatNumber(value.variance)}</b></p>
      <${Equation} name="kernel" number=${value.equation} python=${value.python} />`}</div>`;
}

function Posterior({ value, fault, share, setShare, s }) {
  return html`<div class="card"><h2>One step back, given z and x</h2><${ErrorMessage} fault=${fault} fields=${["row", "column", "picture"]} />
    <${Slider} label="Back to time s" name="s" min="0" max="0.99" step="0.01" value=${share} display=${`s = ${s.toFixed(3)}`} onInput=${event => setShare(Number(event.target.value))} />
    ${value ? html`<${Density} curve=${value.curve} label=${`Density of the pixel at s: mean ${formatNumber(value.mean)}, variance ${formatNumber(value.variance)}`} marks=${[{ x: value.mean, ink: "--c3", dashed: true }, { x: value.x, ink: "--c2" }]} />
      <p class="reading">z at t is <b>${formatFixed(value.z)}</b>, x is <b>${formatFixed(value.x)}</b>; mean <b>${formatFixed(value.mean)}</b>, variance <b>${formatNumber(value.variance)}</b></p>
      <${Equation} name="posterior" number="(20.15)–(20.17)" python=${value.python} />`
      : s === 0 && html`<p class="note">Move t above 0 first.</p>`}</div>`;
}

const Start = ({ model, onPicture }) => html`<${EmptyState} title=${model.kind === "picture" ? "Choose a picture" : "Choose a sample"}>
  <p>${model.kind === "picture" ? "Drop your own" : "Drop a .npy file with one sample"}, choose one from the gallery, or have the model draw one. Then move the time and watch it turn into noise.</p>
  <${DrawOne} model=${model} onPick=${onPicture} /></${EmptyState}>`;

export function Forward({ model, passed, go }) {
  const [picture, setPicture] = useState(null), [t, setT] = useState(0.35), [share, setShare] = useState(0.5), [seed, setSeed] = useState(0);
  const [pixel, setPixel] = useState({ row: 0, column: 0 }), [schedule, setSchedule] = useState(null), [fault, setFault] = useState(null);
  const [playing, setPlaying] = usePlay(t, setT);
  useEffect(() => { if (passed?.picture) setPicture(passed.picture); }, [passed]);
  useEffect(() => {
    setSchedule(null);
    if (!model) return;
    setPixel({ row: Math.floor((model.height ?? 1) / 2), column: Math.floor((model.width ?? 1) / 2) });
    fetchJson(`/api/forward/schedule?${query({ model: model.name })}`).then(setSchedule, setFault);
  }, [model?.name]);

  const s = Number((share * t).toFixed(4)), parameters = { model: model?.name, picture: picture?.id, t };
  const noised = useLatest(picture && model ? `/api/forward/noised?${query({ ...parameters, seed })}` : null);
  const kernel = useLatest(picture && model ? `/api/forward/kernel?${query({ ...parameters, ...pixel })}` : null);
  const posterior = useLatest(picture && model && t > 0 ? `/api/forward/posterior?${query({ ...parameters, s, ...pixel, seed })}` : null);

  if (!model) {
    return html`<${PageHeader} title="From picture to noise">The forward process adds noise until nothing of the picture is left.</${PageHeader}>
      <${EmptyState} title="There is no model yet"><p>The schedule of a model sets how fast the noise grows. Train one first.</p><button type="button" class="main" onClick=${() => go("train")}>Train a model</button></${EmptyState}>`;
  }
  return html`<${PageHeader} title="From picture to noise">Move the time and the picture turns into noise. Each number has its equation in chapter 20 of Bishop & Bishop and the line of Python that computes it.</${PageHeader}>
    <${ErrorMessage} fault=${fault} />
    ${!picture && html`<div class="bench"><div class="controls"><${PictureInput} model=${model} label="Picture" name="picture" onChange=${setPicture} /></div><${Start} model=${model} onPicture=${setPicture} /></div>`}
    ${picture && html`<div class="forward"><div class="aside"><${Time} t=${t} setT=${setT} playing=${playing} setPlaying=${setPlaying} />
        <div class="card"><${ErrorMessage} fault=${noised.fault} /><${Noised} value=${noised.value} model=${model} t=${t} pixel=${pixel} onPick=${model.width ? setPixel : null} onReseed=${() => setSeed(randomSeed())} /><${Histogram} value=${noised.value} t=${t} />
          <${PictureInput} model=${model} label="Another picture" name="picture" onChange=${setPicture} small /></div></div>
      <div class="laws"><${Levels} schedule=${schedule} t=${t} level=${noised.value} />
        <${Kernel} ...${kernel} pixel=${pixel} setPixel=${setPixel} model=${model} />
        <${Posterior} ...${posterior} share=${share} setShare=${setShare} s=${s} /></div></div>`}`;
}

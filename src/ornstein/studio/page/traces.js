// Traces and vectors: a chart on which to mark an unknown stretch, and a chart of the answers with bands.
import { html, useEffect, useMemo, useState } from "./vendor/preact.js";
import { fetchJson, parseNumber } from "./api.js";
import { Chart } from "./chart.js";
import { ErrorMessage, Field, Select } from "./components.js";

const MAX_CHANNELS = 6; // channels that are drawn
const PRESETS = [["Middle third", 1 / 3, 2 / 3], ["Last third", 2 / 3, 1], ["Right half", 1 / 2, 1]];

export const isTrace = model => model.kind !== "picture" && model.shape.length < 3;

const lengthOf = model => model.shape.at(-1);

// The values of an uploaded sample or of one in the gallery.
export function useValues(model, id, row) {
  const [result, setResult] = useState({ path: null });
  const path = id && model ? `/api/files/${id}/values?model=${encodeURIComponent(model.name)}` : null, index = parseNumber(row) ?? 0;
  useEffect(() => {
    let isCurrent = true;
    if (path) fetchJson(`${path}&row=${index}`).then(value => isCurrent && setResult({ path, value }), fault => isCurrent && setResult(previous => ({ path, fault, value: previous.path === path ? previous.value : null })));
    return () => { isCurrent = false; };
  }, [path, index]);
  return result.path === path ? result : {};
}

// The marked stretch of a form as a field of a job; null if nothing is marked.
export function stretchOf({ first, last, channel }) {
  if (String(first) === "" || String(last) === "") return null;
  return { first: parseNumber(first), last: parseNumber(last), ...(channel === "" ? {} : { channel: Number(channel) }) };
}

const covers = (stretch, channel) => stretch && (stretch.channel == null || stretch.channel === channel);

// A flag for each unknown position of a channel.
const unknownFlags = (values, stretches, channel) => values.map((value, index) => value === null
  || stretches.some(stretch => covers(stretch, channel) && index >= stretch.first && index <= stretch.last));

export function StretchInput({ model, values, form, set, fault, children }) {
  const [message, setMessage] = useState("");
  const count = lengthOf(model), end = count - 1, channels = values.values.length, stretch = stretchOf(form);
  const x = useMemo(() => Array.from({ length: count }, (_, index) => index), [count]);
  const mark = (from, to) => {
    const [first, last] = [from, to].map(position => Math.max(0, Math.min(end, Math.round(position)))).sort((a, b) => a - b);
    set({ first, last });
    setMessage(`Positions ${first} to ${last} are marked`);
  };
  const bind = name => ({ name, value: form[name], type: "number", min: 0, max: end, onInput: event => set({ [name]: event.target.value }) });
  const missing = values.values.flat().filter(value => value === null).length;
  return html`<div class="card"><h2>Unknown part</h2>
    ${values.values.slice(0, MAX_CHANNELS).map((channel, index) => html`<${Chart} key=${`${values.row}-${index}`} label=${`The sample${channels > 1 ? `, channel ${index}` : ""}; drag over the unknown part, or enter it below`}
      x=${x} lines=${[{ y: channel, ink: "--c1", gaps: true, dots: count < 40 }]} height=${channels > 1 ? 140 : 220} xRange=${[0, end]} xLabel=${index === Math.min(channels, MAX_CHANNELS) - 1 ? "position" : ""}
      shade=${covers(stretch, index) ? [stretch.first - 0.5, stretch.last + 0.5] : null} onDrag=${mark} />`)}
    ${channels > MAX_CHANNELS && html`<p class="note">The first ${MAX_CHANNELS} of ${channels} channels are shown.</p>`}
    <p class="hint">Drag over the curve with the mouse or a finger, or enter the positions.${missing > 0 ? ` The NaN values of the file (${missing}) are filled as well.` : ""}</p>
    <div class="numbers stretch"><${Field} label="First position" fault=${fault} ...${bind("first")} /><${Field} label="Last position" fault=${fault} ...${bind("last")} />
      ${channels > 1 && html`<${Select} label="Channel" name="channel" options=${[["", "all"], ...values.values.map((_, index) => [String(index), String(index)])]} value=${form.channel} onInput=${event => set({ channel: event.target.value })} />`}</div>
    <p class="chips">${PRESETS.map(([name, from, to]) => html`<button type="button" class="chip" key=${name} onClick=${() => mark(from * count, to * count - 1)}>${name}</button>`)}
      <button type="button" class="chip" onClick=${() => { set({ first: "", last: "" }); setMessage("Nothing is marked"); }}>Clear</button></p>
    <${ErrorMessage} fault=${fault?.field === "unknown" ? fault : null} />
    ${children}<p class="unseen" role="status">${message}</p></div>`;
}

// The answers to a job: the known values, and the mean and the middle 50 and 90 % of the answers.
export function Bands({ job, model }) {
  const { request, result: { bands } } = job, input = useValues(model, request.picture, request.row).value;
  const x = useMemo(() => Array.from({ length: lengthOf(model) }, (_, index) => index), [model.name]);
  if (!input) return null;
  const fills = request.kind === "fill";
  return html`<div class="card"><h2>${fills ? "Possible values" : "Variation"}</h2>${bands.mean.slice(0, MAX_CHANNELS).map((mean, channel) => {
    const values = input.values[channel], unknown = unknownFlags(values, fills ? request.unknown : [], channel);
    const isDrawn = index => !fills || unknown[index] || unknown[index - 1] || unknown[index + 1];
    const drawn = curve => curve.map((value, index) => (isDrawn(index) ? value : null));
    const [low, lower, , upper, high] = bands.quantiles.map(quantile => drawn(quantile[channel]));
    const lines = [...[low, lower, upper, high].map(y => ({ y, ink: "--c2", hidden: true })), { name: "mean", y: drawn(mean), ink: "--c2", gaps: true },
      { name: fills ? "known" : "input", y: values.map((value, index) => (unknown[index] ? null : value)), ink: "--c1", gaps: true, dots: mean.length < 40 }];
    if (fills && unknown.some((flag, index) => flag && values[index] !== null)) {
      lines.push({ name: "original", y: drawn(values), ink: "--c3", gaps: true, dashed: true });
    }
    return html`<${Chart} key=${`${job.id}-${channel}`} label=${`Mean and bands of the answers${bands.mean.length > 1 ? `, channel ${channel}` : ""}`} x=${x} lines=${lines} height=${bands.mean.length > 1 ? 160 : 260}
      xRange=${[0, x.length - 1]} xLabel=${channel === Math.min(bands.mean.length, MAX_CHANNELS) - 1 ? "position" : ""} bands=${[{ name: "50 % of the answers", low: 1, high: 2, ink: "--c2", opacity: "50" }, { name: "90 %", low: 0, high: 3, ink: "--c2", opacity: "28" }]} />`;
  })}</div>`;
}

// Traces and vectors: a chart on which a stretch is marked as unknown, and what is drawn there with its bands.
import { html, useEffect, useMemo, useState } from "./vendor/preact.js";
import { ask, number } from "./api.js";
import { Chart } from "./chart.js";
import { Alarm, Choice, Field } from "./parts.js";

const MOST = 6; // channels that are drawn
const PRESETS = [["Middle third", 1 / 3, 2 / 3], ["Last third", 2 / 3, 1], ["Right half", 1 / 2, 1]];

export const isPlain = model => model.kind !== "picture" && model.shape.length < 3;

const places = model => model.shape.at(-1);

// The numbers of a sample that was sent, or of the gallery.
export function useValues(model, id, row) {
  const [answer, setAnswer] = useState({ of: null });
  const file = id && model ? `/api/files/${id}/values?model=${encodeURIComponent(model.name)}` : null, asked = number(row) ?? 0;
  useEffect(() => {
    let here = true;
    if (file) ask(`${file}&row=${asked}`).then(value => here && setAnswer({ of: file, value }), fault => here && setAnswer(before => ({ of: file, fault, value: before.of === file ? before.value : null })));
    return () => { here = false; };
  }, [file, asked]);
  return answer.of === file ? answer : {};
}

// The stretch of a form as the service takes it; null where there is none.
export function stretchOf({ first, last, channel }) {
  if (String(first) === "" || String(last) === "") return null;
  return { first: number(first), last: number(last), ...(channel === "" ? {} : { channel: Number(channel) }) };
}

const hides = (stretch, channel) => stretch && (stretch.channel == null || stretch.channel === channel);

// Which places of a channel nothing is known of.
const hidden = (values, stretches, channel) => values.map((value, place) => value === null
  || stretches.some(one => hides(one, channel) && place >= one.first && place <= one.last));

export function Stretch({ model, values, form, set, fault, children }) {
  const [said, setSaid] = useState("");
  const count = places(model), last = count - 1, channels = values.values.length, stretch = stretchOf(form);
  const x = useMemo(() => Array.from({ length: count }, (_, place) => place), [count]);
  const mark = (from, to) => {
    const [one, other] = [from, to].map(place => Math.max(0, Math.min(last, Math.round(place)))).sort((a, b) => a - b);
    set({ first: one, last: other });
    setSaid(`Places ${one} to ${other} are marked`);
  };
  const bind = name => ({ name, value: form[name], type: "number", min: 0, max: last, onInput: event => set({ [name]: event.target.value }) });
  const lost = values.values.flat().filter(value => value === null).length;
  return html`<div class="card"><h2>What is unknown</h2>
    ${values.values.slice(0, MOST).map((channel, place) => html`<${Chart} key=${`${values.row}-${place}`} label=${`The sample${channels > 1 ? `, channel ${place}` : ""}; drag over what is unknown, or write it below`}
      x=${x} lines=${[{ y: channel, ink: "--c1", gaps: true, dots: count < 40 }]} height=${channels > 1 ? 140 : 220} xRange=${[0, last]} xLabel=${place === Math.min(channels, MOST) - 1 ? "place" : ""}
      shade=${hides(stretch, place) ? [stretch.first - 0.5, stretch.last + 0.5] : null} onDrag=${mark} />`)}
    ${channels > MOST && html`<p class="note">The first ${MOST} of ${channels} channels are shown.</p>`}
    <p class="said">Drag over the curve, with the mouse or a finger, or write the places.${lost > 0 ? ` What the file has as NaN, ${lost} of its values, is filled as well.` : ""}</p>
    <div class="numbers stretch"><${Field} label="First place" fault=${fault} ...${bind("first")} /><${Field} label="Last place" fault=${fault} ...${bind("last")} />
      ${channels > 1 && html`<${Choice} label="Channel" name="channel" options=${[["", "all"], ...values.values.map((_, place) => [String(place), String(place)])]} value=${form.channel} onInput=${event => set({ channel: event.target.value })} />`}</div>
    <p class="chips">${PRESETS.map(([name, from, to]) => html`<button type="button" class="chip" key=${name} onClick=${() => mark(from * count, to * count - 1)}>${name}</button>`)}
      <button type="button" class="chip" onClick=${() => { set({ first: "", last: "" }); setSaid("Nothing is marked"); }}>Clear</button></p>
    <${Alarm} fault=${fault?.field === "unknown" ? fault : null} />
    ${children}<p class="unseen" role="status">${said}</p></div>`;
}

// Draws of a sample: what is known, their mean, and the middle 50 and 90 % of them.
export function Bands({ job, model }) {
  const { request, result: { bands } } = job, given = useValues(model, request.picture, request.row).value;
  const x = useMemo(() => Array.from({ length: places(model) }, (_, place) => place), [model.name]);
  if (!given) return null;
  const fills = request.kind === "fill";
  return html`<div class="card"><h2>${fills ? "What may be there" : "How they vary"}</h2>${bands.mean.slice(0, MOST).map((mean, channel) => {
    const gone = hidden(given.values[channel], fills ? request.unknown : [], channel);
    const near = place => !fills || gone[place] || gone[place - 1] || gone[place + 1];
    const [low, lower, , upper, high] = bands.quantiles.map(one => one[channel].map((value, place) => (near(place) ? value : null)));
    const lines = [{ y: low, ink: "--c2", bare: true }, { y: lower, ink: "--c2", bare: true }, { y: upper, ink: "--c2", bare: true }, { y: high, ink: "--c2", bare: true },
      { name: "mean", y: mean.map((value, place) => (near(place) ? value : null)), ink: "--c2", gaps: true },
      { name: fills ? "known" : "given", y: given.values[channel].map((value, place) => (gone[place] ? null : value)), ink: "--c1", gaps: true, dots: mean.length < 40 }];
    if (fills && gone.some((is, place) => is && given.values[channel][place] !== null)) {
      lines.push({ name: "what was marked", y: given.values[channel].map((value, place) => (near(place) ? value : null)), ink: "--c3", gaps: true, dashed: true });
    }
    return html`<${Chart} key=${`${job.id}-${channel}`} label=${`Mean and bands of the answers${bands.mean.length > 1 ? `, channel ${channel}` : ""}`} x=${x} lines=${lines} height=${bands.mean.length > 1 ? 160 : 260}
      xRange=${[0, x.length - 1]} xLabel=${channel === Math.min(bands.mean.length, MOST) - 1 ? "place" : ""} bands=${[{ name: "50 % of the answers", low: 1, high: 2, ink: "--c2", part: "50" }, { name: "90 %", low: 0, high: 3, ink: "--c2", part: "28" }]} />`;
  })}</div>`;
}

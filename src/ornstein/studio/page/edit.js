// Edit: a hole filled, variations, a walk between two pictures, and a measurement undone.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { ask, chance, many, number, reveal, short, upload, useJob } from "./api.js";
import { Alarm, Choice, Code, Empty, Field, Head, Progress, Segments, Slider, Tick, useForm } from "./parts.js";
import { DrawOne, Picture, Well, tiles } from "./pictures.js";
import { Mask, maskOf } from "./mask.js";
import { Bands, Stretch, isPlain, stretchOf, useValues } from "./traces.js";

const KINDS = [["fill", "Fill"], ["vary", "Vary"], ["interpolate", "Blend"], ["restore", "Restore"]];
const WHAT = {
  fill: "Paint over what is to be drawn anew. Every answer agrees with what you left.",
  vary: "Pictures like yours: a little noise, or much, and back.",
  interpolate: "From one picture to another, over pictures.",
  restore: "What the picture may have been before it was blurred, shrunk or covered.",
};
const OPERATORS = [["blur", "blurred", 1.5], ["down", "made smaller", 4], ["grey", "made grey", null], ["mask", "covered at random", 0.5]];
const OF_ARRAYS = {
  fill: "Mark what is unknown. Every answer agrees with what you left, and bands say how sure the model is.",
  vary: "Samples like yours: a little noise, or much, and back.",
  interpolate: "From one sample to another, over samples.",
};
const FIELDS = ["unknown", "row", "picture", "other", "mask", "strength", "operator", "noise", "count", "nfe", "label", "seed"];

async function bodyOf(kind, form, model, canvas) {
  const body = { kind, model: model.name, picture: form.picture?.id, count: number(form.count), nfe: number(form.nfe), seed: number(form.seed) ?? chance() };
  if (form.label !== "") body.label = form.label;
  if (kind === "vary") body.strength = Number(form.strength);
  if (kind === "interpolate") body.other = form.other?.id;
  if (kind === "restore") {
    body.operator = form.amount === "" ? form.operator : `${form.operator}=${form.amount}`;
    body.measure = form.measure;
    if (number(form.noise) !== undefined) body.noise = number(form.noise);
  }
  if (form.row) body.row = number(form.row);
  if (kind === "fill" && model.kind !== "picture") {
    const stretch = stretchOf(form);
    if (stretch) body.unknown = [stretch];
  } else if (kind === "fill") {
    const mask = await maskOf(canvas, form.picture);
    if (mask) body.mask = (await upload(mask, "mask.png")).id;
  }
  return body;
}

// A picture by its id: one that was sent, or one of the gallery.
const find = id => (id ? ask(`/api/gallery/${id}`).catch(() => ask(`/api/files/${id}`)).catch(() => null) : null);

// The form that a request stands for, so that the same can be asked again.
async function formOf(request) {
  const [operator, amount = ""] = (request.operator ?? "").split("="), [picture, other] = await Promise.all([find(request.picture), find(request.other)]);
  const told = { picture, other, before: request.mask ?? null, seed: String(request.seed ?? ""), label: String(request.label ?? ""), count: request.count, nfe: request.nfe, noise: request.noise ?? "" };
  const [marked] = request.unknown ?? [];
  Object.assign(told, { row: request.row || "", first: marked?.first ?? "", last: marked?.last ?? "", channel: String(marked?.channel ?? "") });
  if (request.strength !== undefined) told.strength = request.strength;
  if (OPERATORS.some(([name]) => name === operator)) Object.assign(told, { operator, amount, measure: request.measure });
  return told;
}

function Settings({ kind, model, form, set, bind, tick, fault }) {
  const [, , amount] = OPERATORS.find(([name]) => name === form.operator);
  return html`
    ${kind === "vary" && html`<${Slider} label="How far" min="0" max="1" step="0.05" fault=${fault} hint="Near 0 the picture stays; at 1 nothing of it does." ...${bind("strength")} shown=${Number(form.strength).toFixed(2)} />`}
    ${kind === "restore" && html`<${Choice} label="What was done to it" options=${OPERATORS.map(([name, text]) => [name, text])} fault=${fault} ...${bind("operator")}
        onInput=${event => set({ operator: event.target.value, amount: OPERATORS.find(([name]) => name === event.target.value)[2] ?? "" })} />
      ${amount !== null && html`<${Field} label="How much" type="number" step="any" min="0" fault=${fault} hint=${{ blur: "Width of the blur in pixels.", down: "How many times smaller.", mask: "Share that is covered." }[form.operator]} ...${bind("amount")} />`}
      <${Field} label="Noise in it" type="number" step="any" min="0" placeholder="a hundredth of the range" fault=${fault} ...${bind("noise")} />
      <${Tick} label="The picture is whole: do this to it first" ...${tick("measure")} />`}
    ${model.classes.length > 0 && html`<${Choice} label="Class" options=${[["", "not told"], ...model.classes.map(name => [name, name])]} fault=${fault} ...${bind("label")} />`}
    <${Field} label=${kind === "interpolate" ? "Steps between" : "How many answers"} type="number" min="1" max="64" fault=${fault} ...${bind("count")} />
    <${Slider} label="Network calls an answer" min="5" max="200" step="5" fault=${fault} ...${bind("nfe")} />
    <${Field} label="Seed" inputmode="numeric" placeholder="a new one each time" fault=${fault} ...${bind("seed")} />`;
}

function Blend({ samples }) {
  const [at, setAt] = useState(Math.floor(samples.length / 2));
  const place = Math.min(at, samples.length - 1);
  return html`<div class="blend"><div class="tiles one"><div class="tile"><${Picture} src=${samples[place].url} alt=${`Step ${place + 1} of ${samples.length}`} /></div></div>
    <${Slider} label="From one to the other" name="place" min="0" max=${samples.length - 1} value=${place} shown=${`${place + 1} of ${samples.length}`} onInput=${event => setAt(Number(event.target.value))} /></div>`;
}

// The answers one by one: of traces below their bands, which say more.
const Each = ({ folded, children }) => (folded ? html`<details><summary>Each answer</summary>${children}</details>` : children);

function Answers({ job, model, busy, go }) {
  const done = job.status === "done", frame = job.frames.at(-1), count = done ? job.samples.length : Math.min(Number(job.request.count) || 1, 64);
  const blended = job.request.kind === "interpolate", banded = done && job.result.bands && model.name === job.model;
  return html`<div class="stage-body">
    ${busy && html`<${Progress} value=${job.progress} left=${job.left} waits=${job.waits} label=${job.status === "queued" ? "Waiting for its turn" : `Call ${job.done ?? 0} of ${job.of ?? "…"}`} />`}
    ${done && blended && count > 1 && html`<${Blend} samples=${job.samples} />`}
    ${done && job.extra.spread && html`<div class="tiles few plain-caption">
      <figure class="tile"><${Picture} src=${job.extra.mean} alt="Mean of the answers" /><figcaption><b>Mean</b> of ${many(count, "answer")}</figcaption></figure>
      <figure class="tile"><${Picture} src=${job.extra.spread} alt="Where the answers differ" /><figcaption><b>Spread</b>: white is where they differ most, by ${short(100 * job.result.spread, 2)} % of the range</figcaption></figure></div>`}
    ${banded && html`<${Bands} job=${job} model=${model} />`}
    <${Each} folded=${banded}><div class=${model.kind === "picture" ? tiles(Math.max(count, 5)) : "tiles few drawn"}>${Array.from({ length: count }, (_, place) => {
      const sample = done ? job.samples[place] : null, src = sample?.url ?? frame?.images[place];
      return html`<figure class="tile" key=${place}>${src ? html`<${Picture} src=${src} alt=${`Answer ${place + 1}`} />` : html`<div class="blank"></div>`}
        ${sample && html`<figcaption><span class="class-name">${place + 1}</span><span class="tile-tools">
          <button type="button" class="quiet" title="Edit this one" aria-label=${`Edit answer ${place + 1}`} onClick=${() => go("edit", { picture: sample })}>✎</button>
          <a class="quiet" href=${`${sample.url}?download=true`} title="Download" aria-label=${`Download answer ${place + 1}`}>↓</a></span></figcaption>`}</figure>`;
    })}</div></${Each}>
    ${done && job.result.notes?.map(note => html`<p class="note" key=${note}>${note}</p>`)}
    ${done && html`<p class="cost">${many(count, blended ? "picture" : "answer")} · ${many(job.calls.total, "network call")} each · ${short(job.finished - job.started, 2)} s in all</p>
      <${Code} label="Python" text=${job.python} /><${Code} label="Command" text=${job.command} />`}
    ${job.status === "cancelled" && html`<p class="note">Stopped.</p>`}</div>`;
}

export function Edit({ model, handed, go }) {
  const [kind, setKind] = useState("fill");
  const { form, set, bind, tick } = useForm({ picture: null, other: null, strength: 0.5, operator: "blur", amount: 1.5, noise: "", measure: true, label: "", count: 8, nfe: 50, seed: "", before: null, row: "", first: "", last: "", channel: "" });
  const [local, setLocal] = useState(null);
  const canvas = useRef(null), answers = useRef(null);
  const { job, busy, start, stop } = useJob();
  useEffect(() => {
    if (!handed) return;
    if (handed.picture) set({ picture: handed.picture });
    if (handed.kind) setKind(handed.kind);
    if (handed.strength) set({ strength: handed.strength });
    if (handed.request) formOf(handed.request).then(set);
  }, [handed]);

  useEffect(() => { if (model && form.label && !model.classes.includes(form.label)) set({ label: "" }); }, [model?.name]);

  const pictures = model?.kind === "picture", values = useValues(pictures ? null : model, form.picture?.id, form.row);
  const kinds = pictures ? KINDS : KINDS.filter(([name]) => name in OF_ARRAYS);
  useEffect(() => {
    if (!model) return;
    setKind(handed?.kind ?? (kinds.some(([name]) => name === kind) ? kind : "fill"));
    set({ picture: handed?.picture ?? null, other: null, before: null, row: "", first: "", last: "", count: pictures ? 8 : 32 });
  }, [pictures]);

  if (!model || !(pictures || isPlain(model))) {
    return html`<${Head} title="Edit a picture">Fill a hole, vary, blend and restore, with what a model has learnt.</${Head}>
      <${Empty} title=${model ? "This model draws no pictures or traces" : "There is no model yet"}><p>${model ? "Choose another model above, or edit with the command ornstein edit." : "Editing uses what a model knows. Train one first."}</p>
      <button type="button" class="main" onClick=${() => go("train")}>Train a model</button></${Empty}>`;
  }
  const submit = async event => {
    event.preventDefault();
    setLocal(null);
    try {
      if (!form.picture) return setLocal({ field: "picture", message: `Choose a ${pictures ? "picture" : "sample"} first.` });
      if (kind === "interpolate" && !form.other) return setLocal({ field: "other", message: `Choose a second ${pictures ? "picture" : "sample"}.` });
      const body = await bodyOf(kind, form, model, canvas.current);
      const known = values.value && !values.value.values.flat().includes(null);
      if (kind === "fill" && !pictures && !body.unknown && known) return setLocal({ field: "unknown", message: "Mark a stretch of the curve first." });
      if (kind === "fill" && pictures && !body.mask && !form.picture.name?.toLowerCase().endsWith(".png")) return setLocal({ field: "mask", message: "Paint over a part of the picture first." });
      reveal(answers.current);
      await start(body);
    } catch (fault) {
      setLocal(fault);
    }
  };
  const fault = local ?? values.fault ?? job?.fault ?? null, what = pictures ? "picture" : "sample";
  const pick = name => value => { setLocal(null); set({ [name]: value, before: null, row: "" }); };
  const painting = kind === "fill" && form.picture;
  const buttons = html`<div class="buttons">${busy ? html`<button type="button" onClick=${stop}>Stop</button>`
    : html`<button class="main" form="edit-form">${KINDS.find(([name]) => name === kind)[1]}</button>`}</div>`;
  const several = values.value?.rows > 1 && html`<${Field} label="Sample of the file" type="number" min="0" max=${values.value.rows - 1} placeholder="0" fault=${fault} hint=${`It holds ${many(values.value.rows, "sample")}, counted from 0.`} ...${bind("row")} />`;
  return html`<${Head} title=${`Edit a ${what}`}>${(pictures ? WHAT : OF_ARRAYS)[kind]}</${Head}>
    <div class="bench"><form id="edit-form" class="controls" onSubmit=${submit} noValidate>
        <${Segments} label="What to do" options=${kinds} value=${kind} onChange=${value => { setLocal(null); setKind(value); }} />
        <${Well} model=${model} label=${kind === "interpolate" ? "From" : pictures ? "Picture" : "Sample"} name="picture" value=${form.picture} onChange=${pick("picture")} fault=${fault} small=${painting} />
        ${kind === "interpolate" && html`<${Well} model=${model} label="To" name="other" value=${form.other} onChange=${pick("other")} fault=${fault} />`}
        ${several}<${Settings} kind=${kind} model=${model} form=${form} set=${set} bind=${bind} tick=${tick} fault=${fault} />
        <${Alarm} fault=${fault} fields=${FIELDS} />
        ${!painting && buttons}
      </form>
      <div class="stage"><div class="stage-body">
        ${painting && !pictures && values.value && html`<${Stretch} model=${model} values=${values.value} form=${form} set=${set} fault=${fault}>${buttons}</${Stretch}>`}
        ${painting && pictures && html`<${Mask} model=${model} before=${form.before} picture=${form.picture} canvas=${canvas} fault=${fault}>${buttons}</${Mask}>`}
        <div ref=${answers}>${job && job.status !== "refused" && !(job.status === "failed" && !job.frames.length) ? html`<${Answers} job=${job} model=${model} busy=${busy} go=${go} />`
          : !painting && html`<${Empty} title=${form.picture ? "Ready" : `Choose a ${what}`}><p>${form.picture ? `Press ${KINDS.find(([name]) => name === kind)[1]}, and see several answers.`
            : pictures ? `Drop one of your own on the left, or take one from the gallery. It is brought to the model's ${model.width} × ${model.height} pixels.`
              : `Drop a .npy file of your own on the left, numbers of shape ${model.shape.join(" × ")}, take a sample from the gallery, or have the model draw one.`}</p>
            ${!form.picture && html`<${DrawOne} model=${model} onPick=${pick("picture")} />`}</${Empty}>`}</div>
      </div></div></div>`;
}

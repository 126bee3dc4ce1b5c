// Edit: fill holes, vary, blend two pictures, and undo a measurement.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { fetchJson, formatNumber, parseNumber, plural, randomSeed, revealResults, upload, useJob } from "./api.js";
import { Checkbox, CodeLine, EmptyState, ErrorMessage, Field, PageHeader, Progress, SegmentedControl, Select, Slider, useForm } from "./components.js";
import { DrawOne, Picture, PictureInput, tiles } from "./pictures.js";
import { MaskPainter, maskOf } from "./mask.js";
import { Bands, StretchInput, isTrace, stretchOf, useValues } from "./traces.js";

const KINDS = [["fill", "Fill"], ["vary", "Vary"], ["interpolate", "Blend"], ["restore", "Restore"]];
const OF_PICTURES = {
  fill: "Paint over the part to draw again. The rest stays as it is in every answer.",
  vary: "Draw pictures similar to yours, by adding noise and removing it again.",
  interpolate: "Draw pictures on the way from one picture to another.",
  restore: "Draw what the picture may have been before it was blurred, reduced or covered.",
};
const OPERATORS = [["blur", "blurred", 1.5], ["down", "reduced in size", 4], ["grey", "turned grey", null], ["mask", "randomly covered", 0.5]];
const OF_ARRAYS = {
  fill: "Mark the unknown part. The rest stays as it is in every answer, and bands show how certain the model is.",
  vary: "Draw samples similar to yours, by adding noise and removing it again.",
  interpolate: "Draw samples on the way from one sample to another.",
};
const FIELDS = ["unknown", "row", "picture", "other", "mask", "strength", "operator", "noise", "count", "nfe", "label", "seed"];

async function bodyOf(kind, form, model, canvas) {
  const body = { kind, model: model.name, picture: form.picture?.id, count: parseNumber(form.count), nfe: parseNumber(form.nfe), seed: parseNumber(form.seed) ?? randomSeed() };
  if (form.label !== "") body.label = form.label;
  if (kind === "vary") body.strength = Number(form.strength);
  if (kind === "interpolate") body.other = form.other?.id;
  if (kind === "restore") {
    body.operator = form.amount === "" ? form.operator : `${form.operator}=${form.amount}`;
    body.measure = form.measure;
    if (parseNumber(form.noise) !== undefined) body.noise = parseNumber(form.noise);
  }
  if (form.row) body.row = parseNumber(form.row);
  if (kind === "fill" && model.kind !== "picture") {
    const stretch = stretchOf(form);
    if (stretch) body.unknown = [stretch];
  } else if (kind === "fill") {
    const mask = await maskOf(canvas, form.picture);
    if (mask) body.mask = (await upload(mask, "mask.png")).id;
  }
  return body;
}

// A picture in the gallery or an upload, by its id; null if it no longer exists.
const findPicture = id => (id ? fetchJson(`/api/gallery/${id}`).catch(() => fetchJson(`/api/files/${id}`)).catch(() => null) : null);

// The values of the form for a request, to edit again.
async function formOf(request) {
  const [operator, amount = ""] = (request.operator ?? "").split("="), [picture, other] = await Promise.all([findPicture(request.picture), findPicture(request.other)]);
  const form = { picture, other, previousMask: request.mask ?? null, seed: String(request.seed ?? ""), label: String(request.label ?? ""), count: request.count, nfe: request.nfe, noise: request.noise ?? "" };
  const [stretch] = request.unknown ?? [];
  Object.assign(form, { row: request.row || "", first: stretch?.first ?? "", last: stretch?.last ?? "", channel: String(stretch?.channel ?? "") });
  if (request.strength !== undefined) form.strength = request.strength;
  if (OPERATORS.some(([name]) => name === operator)) Object.assign(form, { operator, amount, measure: request.measure });
  return form;
}

function Settings({ kind, model, form, set, bind, tick, fault }) {
  const [, , amount] = OPERATORS.find(([name]) => name === form.operator);
  return html`
    ${kind === "vary" && html`<${Slider} label="Strength" min="0" max="1" step="0.05" fault=${fault} hint="0 keeps the picture, 1 replaces it completely." ...${bind("strength")} display=${Number(form.strength).toFixed(2)} />`}
    ${kind === "restore" && html`<${Select} label="The picture was" options=${OPERATORS.map(([name, text]) => [name, text])} fault=${fault} ...${bind("operator")}
        onInput=${event => set({ operator: event.target.value, amount: OPERATORS.find(([name]) => name === event.target.value)[2] ?? "" })} />
      ${amount !== null && html`<${Field} label="Amount" type="number" step="any" min="0" fault=${fault} hint=${{ blur: "Width of the blur in pixels.", down: "Reduction factor.", mask: "Covered share of the pixels." }[form.operator]} ...${bind("amount")} />`}
      <${Field} label="Noise level" type="number" step="any" min="0" placeholder="1 % of the range" fault=${fault} ...${bind("noise")} />
      <${Checkbox} label="The picture is intact: apply this to it first" ...${tick("measure")} />`}
    ${model.classes.length > 0 && html`<${Select} label="Class" options=${[["", "unknown"], ...model.classes.map(name => [name, name])]} fault=${fault} ...${bind("label")} />`}
    <${Field} label=${kind === "interpolate" ? "Number of steps" : "How many answers"} type="number" min="1" max="64" fault=${fault} ...${bind("count")} />
    <${Slider} label="Network calls per answer" min="5" max="200" step="5" fault=${fault} ...${bind("nfe")} />
    <${Field} label="Seed" inputmode="numeric" placeholder="a new one each time" fault=${fault} ...${bind("seed")} />`;
}

function Blend({ samples }) {
  const [chosen, setChosen] = useState(Math.floor(samples.length / 2));
  const index = Math.min(chosen, samples.length - 1), display = `${index + 1} of ${samples.length}`;
  return html`<div class="blend"><div class="tiles one"><div class="tile"><${Picture} src=${samples[index].url} alt=${`Step ${display}`} /></div></div>
    <${Slider} label="Step" name="step" min="0" max=${samples.length - 1} value=${index} display=${display} onInput=${event => setChosen(Number(event.target.value))} /></div>`;
}

// The single answers, folded below the bands of traces.
const SingleAnswers = ({ folded, children }) => (folded ? html`<details><summary>Single answers</summary>${children}</details>` : children);

function Answers({ job, model, busy, go }) {
  const done = job.status === "done", frame = job.frames.at(-1), count = done ? job.samples.length : Math.min(Number(job.request.count) || 1, 64);
  const isBlend = job.request.kind === "interpolate", hasBands = done && job.result.bands && model.name === job.model;
  return html`<div class="stage-body">
    ${busy && html`<${Progress} value=${job.progress} secondsLeft=${job.secondsLeft} reconnecting=${job.reconnecting} label=${job.status === "queued" ? "Waiting for its turn" : `Call ${job.callsDone ?? 0} of ${job.callsTotal ?? "…"}`} />`}
    ${done && isBlend && count > 1 && html`<${Blend} samples=${job.samples} />`}
    ${done && job.extra.spread && html`<div class="tiles few plain-caption">
      <figure class="tile"><${Picture} src=${job.extra.mean} alt="Mean of the answers" /><figcaption><b>Mean</b> of ${plural(count, "answer")}</figcaption></figure>
      <figure class="tile"><${Picture} src=${job.extra.spread} alt="Where the answers differ" /><figcaption><b>Spread</b>: white is where they differ most, by ${formatNumber(100 * job.result.spread, 2)} % of the range</figcaption></figure></div>`}
    ${hasBands && html`<${Bands} job=${job} model=${model} />`}
    <${SingleAnswers} folded=${hasBands}><div class=${model.kind === "picture" ? tiles(Math.max(count, 5)) : "tiles few drawn"}>${Array.from({ length: count }, (_, index) => {
      const sample = done ? job.samples[index] : null, src = sample?.url ?? frame?.images[index];
      return html`<figure class="tile" key=${index}>${src ? html`<${Picture} src=${src} alt=${`Answer ${index + 1}`} />` : html`<div class="blank"></div>`}
        ${sample && html`<figcaption><span class="class-name">${index + 1}</span><span class="tile-tools">
          <button type="button" class="quiet" title="Edit" aria-label=${`Edit answer ${index + 1}`} onClick=${() => go("edit", { picture: sample })}>✎</button>
          <a class="quiet" href=${`${sample.url}?download=true`} title="Download" aria-label=${`Download answer ${index + 1}`}>↓</a></span></figcaption>`}</figure>`;
    })}</div></${SingleAnswers}>
    ${done && job.result.notes?.map(note => html`<p class="note" key=${note}>${note}</p>`)}
    ${done && html`<p class="cost">${plural(count, isBlend ? "picture" : "answer")} · ${plural(job.calls.total, "network call")} each · ${formatNumber(job.finished - job.started, 2)} s in total</p>
      <${CodeLine} label="Python" text=${job.python} /><${CodeLine} label="Command" text=${job.command} />`}
    ${job.status === "cancelled" && html`<p class="note">Stopped.</p>`}</div>`;
}

export function Edit({ model, passed, go }) {
  const [kind, setKind] = useState("fill");
  const { form, set, bind, tick } = useForm({ picture: null, other: null, strength: 0.5, operator: "blur", amount: 1.5, noise: "", measure: true, label: "", count: 8, nfe: 50, seed: "", previousMask: null, row: "", first: "", last: "", channel: "" });
  const [formFault, setFormFault] = useState(null);
  const canvas = useRef(null), answers = useRef(null);
  const { job, busy, start, stop } = useJob();
  useEffect(() => {
    if (!passed) return;
    if (passed.picture) set({ picture: passed.picture });
    if (passed.kind) setKind(passed.kind);
    if (passed.strength) set({ strength: passed.strength });
    if (passed.request) formOf(passed.request).then(set);
  }, [passed]);

  useEffect(() => { if (model && form.label && !model.classes.includes(form.label)) set({ label: "" }); }, [model?.name]);

  const isPicture = model?.kind === "picture", values = useValues(isPicture ? null : model, form.picture?.id, form.row);
  const kinds = isPicture ? KINDS : KINDS.filter(([name]) => name in OF_ARRAYS);
  useEffect(() => {
    if (!model) return;
    setKind(passed?.kind ?? (kinds.some(([name]) => name === kind) ? kind : "fill"));
    set({ picture: passed?.picture ?? null, other: null, previousMask: null, row: "", first: "", last: "", count: isPicture ? 8 : 32 });
  }, [isPicture]);

  if (!model || !(isPicture || isTrace(model))) {
    return html`<${PageHeader} title="Edit a picture">Fill, vary, blend and restore pictures with a trained model.</${PageHeader}>
      <${EmptyState} title=${model ? "This model draws neither pictures nor traces" : "There is no model yet"}><p>${model ? "Choose another model above, or use the command ornstein edit." : "Editing needs a model. Train one first."}</p>
      <button type="button" class="main" onClick=${() => go("train")}>Train a model</button></${EmptyState}>`;
  }
  const noun = isPicture ? "picture" : "sample";
  const submit = async event => {
    event.preventDefault();
    setFormFault(null);
    try {
      if (!form.picture) return setFormFault({ field: "picture", message: `Choose a ${noun} first.` });
      if (kind === "interpolate" && !form.other) return setFormFault({ field: "other", message: `Choose a second ${noun}.` });
      const body = await bodyOf(kind, form, model, canvas.current);
      const allKnown = values.value && !values.value.values.flat().includes(null);
      if (kind === "fill" && !isPicture && !body.unknown && allKnown) return setFormFault({ field: "unknown", message: "Mark part of the curve first." });
      if (kind === "fill" && isPicture && !body.mask && !form.picture.name?.toLowerCase().endsWith(".png")) return setFormFault({ field: "mask", message: "Paint over part of the picture first." });
      revealResults(answers.current);
      await start(body);
    } catch (fault) {
      setFormFault(fault);
    }
  };
  const fault = formFault ?? values.fault ?? job?.fault ?? null;
  const pick = name => value => { setFormFault(null); set({ [name]: value, previousMask: null, row: "" }); };
  const painting = kind === "fill" && form.picture;
  const buttons = html`<div class="buttons">${busy ? html`<button type="button" onClick=${stop}>Stop</button>`
    : html`<button class="main" form="edit-form">${KINDS.find(([name]) => name === kind)[1]}</button>`}</div>`;
  const rowField = values.value?.rows > 1 && html`<${Field} label="Sample in the file" type="number" min="0" max=${values.value.rows - 1} placeholder="0" fault=${fault} hint=${`The file has ${plural(values.value.rows, "sample")}, counted from 0.`} ...${bind("row")} />`;
  return html`<${PageHeader} title=${`Edit a ${noun}`}>${(isPicture ? OF_PICTURES : OF_ARRAYS)[kind]}</${PageHeader}>
    <div class="bench"><form id="edit-form" class="controls" onSubmit=${submit} noValidate>
        <${SegmentedControl} label="What to do" options=${kinds} value=${kind} onChange=${value => { setFormFault(null); setKind(value); }} />
        <${PictureInput} model=${model} label=${kind === "interpolate" ? "From" : isPicture ? "Picture" : "Sample"} name="picture" value=${form.picture} onChange=${pick("picture")} fault=${fault} small=${painting} />
        ${kind === "interpolate" && html`<${PictureInput} model=${model} label="To" name="other" value=${form.other} onChange=${pick("other")} fault=${fault} />`}
        ${rowField}<${Settings} kind=${kind} model=${model} form=${form} set=${set} bind=${bind} tick=${tick} fault=${fault} />
        <${ErrorMessage} fault=${fault} fields=${FIELDS} />
        ${!painting && buttons}
      </form>
      <div class="stage"><div class="stage-body">
        ${painting && !isPicture && values.value && html`<${StretchInput} model=${model} values=${values.value} form=${form} set=${set} fault=${fault}>${buttons}</${StretchInput}>`}
        ${painting && isPicture && html`<${MaskPainter} model=${model} previous=${form.previousMask} picture=${form.picture} canvas=${canvas} fault=${fault}>${buttons}</${MaskPainter}>`}
        <div ref=${answers}>${job && job.status !== "refused" && !(job.status === "failed" && !job.frames.length) ? html`<${Answers} job=${job} model=${model} busy=${busy} go=${go} />`
          : !painting && html`<${EmptyState} title=${form.picture ? "Ready" : `Choose a ${noun}`}><p>${form.picture ? `Press ${KINDS.find(([name]) => name === kind)[1]} to draw several answers.`
            : isPicture ? `Drop your own on the left, or choose one from the gallery. It is resized to the model's ${model.width} × ${model.height} pixels.`
              : `Drop your own .npy file of shape ${model.shape.join(" × ")} on the left, choose a sample from the gallery, or have the model draw one.`}</p>
            ${!form.picture && html`<${DrawOne} model=${model} onPick=${pick("picture")} />`}</${EmptyState}>`}</div>
      </div></div></div>`;
}

// Generate: draw new pictures and watch them form.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { formatNumber, parseNumber, plural, randomSeed, revealResults, useJob } from "./api.js";
import { Checkbox, CodeLine, EmptyState, ErrorMessage, Field, PageHeader, Progress, Select, Slider, useForm } from "./components.js";
import { FilmControls, Picture, tiles, useFilm } from "./pictures.js";

const START = { label: "", count: 10, nfe: 20, sampler: "auto", guidance: "", seed: "", fresh: true, condition: {} };
const FIELDS = ["label", "count", "nfe", "sampler", "guidance", "seed", "condition"];

function bodyOf(form, model) {
  const body = { kind: "generate", model: model.name, count: parseNumber(form.count), nfe: parseNumber(form.nfe), sampler: form.sampler, seed: parseNumber(form.seed) };
  if (form.label !== "") body.label = form.label;
  if (parseNumber(form.guidance) !== undefined) body.guidance = parseNumber(form.guidance);
  const condition = model.conditions.map(name => parseNumber(form.condition[name]));
  if (condition.some(value => value !== undefined)) body.condition = condition.map(value => value ?? null);
  return body;
}

// The values of the form for a request, to draw it again.
const formOf = request => ({
  ...START, fresh: false, label: String(request.label ?? ""), count: request.count ?? 1, nfe: request.nfe ?? 20, sampler: request.sampler ?? "auto",
  guidance: request.guidance ?? "", seed: request.seed ?? 0,
});

function Conditions({ model, form, set, fault }) {
  return model.conditions.map(name => html`<${Field} key=${name} label=${name} name="condition" type="number" step="any" placeholder="as in the data" fault=${fault}
    value=${form.condition[name] ?? ""} onInput=${event => set({ condition: { ...form.condition, [name]: event.target.value } })} />`);
}

function Form({ model, samplers, form, set, bind, tick, busy, fault, onSubmit, onStop }) {
  const classes = [["", "all classes in turn"], ...model.classes.map(name => [name, name])];
  const samplerOptions = Object.entries(samplers).map(([name, facts]) => [name, name === "auto" ? "auto (best for this model)" : `${name}${facts.stochastic ? " (stochastic)" : ""}`]);
  const tuned = model.tuned.map(choice => choice.nfe).filter(nfe => nfe <= 100);
  return html`<form class="controls" onSubmit=${onSubmit} noValidate>
    ${model.classes.length > 0 && html`<${Select} label="Class" options=${classes} fault=${fault} ...${bind("label")} />`}
    <${Conditions} model=${model} form=${form} set=${set} fault=${fault} />
    <${Field} label="How many" type="number" min="1" max="64" inputmode="numeric" fault=${fault} ...${bind("count")} />
    <${Slider} label="Network calls per picture" min="1" max="100" fault=${fault} hint="Few are fast but coarse, many are slow but fine." ...${bind("nfe")} />
    ${tuned.length > 0 && html`<p class="chips">Tuned for ${tuned.map(nfe => html`<button type="button" class="chip" key=${nfe} onClick=${() => set({ nfe })}>${nfe}</button>`)} calls</p>`}
    <${Field} label="Seed" inputmode="numeric" placeholder="a new one" fault=${fault} hint="The same seed gives the same pictures." ...${bind("seed")} disabled=${form.fresh} />
    <${Checkbox} label="A new seed each time" ...${tick("fresh")} />
    <details><summary>More</summary>
      <${Select} label="Sampler" options=${samplerOptions} fault=${fault} ...${bind("sampler")} />
      ${model.guidance && html`<${Field} label="Guidance" type="number" step="any" placeholder="1 (none)" fault=${fault} hint="Above 1, pictures match their class better but vary less." ...${bind("guidance")} />`}
    </details>
    <${ErrorMessage} fault=${fault} fields=${FIELDS} />
    <div class="buttons">${busy ? html`<button type="button" onClick=${onStop}>Stop</button>` : html`<button class="main">Draw</button>`}</div>
  </form>`;
}

function SampleTile({ src, alt, sample, onReroll, go, busy }) {
  return html`<figure class="tile">${src ? html`<${Picture} src=${src} alt=${alt} />` : html`<div class="blank"></div>`}
    ${sample && html`<figcaption>${sample.label && html`<span class="class-name">${sample.label}</span>`}<span class="tile-tools">
      <button type="button" class="quiet" onClick=${onReroll} disabled=${busy} title="Draw again with another seed" aria-label=${`Reroll: ${alt}`}>↻</button>
      <button type="button" class="quiet" onClick=${() => go("edit", { picture: sample })} title="Edit" aria-label=${`Edit: ${alt}`}>✎</button>
      <button type="button" class="quiet" onClick=${() => go("forward", { picture: sample })} title="Watch it turn into noise" aria-label=${`Forward: ${alt}`}>∿</button>
      <a class="quiet" href=${`${sample.url}?download=true`} title="Download" aria-label=${`Download: ${alt}`}>↓</a></span></figcaption>`}
  </figure>`;
}

function Cost({ job }) {
  if (job.status !== "done") return null;
  const seconds = job.finished - job.started, count = job.samples.length;
  return html`<p class="cost">${plural(count, "picture")} · ${plural(job.calls.total, "network call")} each · ${formatNumber(seconds, 2)} s in total · seed ${String(job.request.seed)}</p>`;
}

function Stage({ model, job, busy, rerolling, replaced, reroll, go }) {
  const frames = job.frames, film = useFilm(frames.length + 1, busy, 260);
  const done = job.status === "done", replaying = done && film.frame < frames.length;
  const frame = frames[replaying ? film.frame : frames.length - 1];
  const count = done ? job.samples.length : Math.min(Number(job.request.count) || 1, 64);
  const source = index => {
    const preview = rerolling.busy && rerolling.index === index ? rerolling.job.frames.at(-1)?.images[0] : null;
    if (done && !replaying) return preview ?? (replaced[index] ?? job.samples[index]).url;
    return frame?.images[index] ?? (done ? job.samples[index].url : null);
  };
  return html`<div class="stage-body">
    ${busy && html`<${Progress} value=${job.progress} secondsLeft=${job.secondsLeft} reconnecting=${job.reconnecting} label=${job.status === "queued" ? "Waiting for its turn" : `Drawing: call ${job.callsDone ?? 0} of ${job.callsTotal ?? "…"}`} />`}
    <div class=${model.kind === "picture" ? tiles(count) : "tiles few drawn"}>${Array.from({ length: count }, (_, index) => html`<${SampleTile} key=${index} src=${source(index)} go=${go} busy=${rerolling.busy}
      alt=${`Picture ${index + 1}${job.samples[index]?.label ? `, ${job.samples[index].label}` : ""}`}
      sample=${done ? replaced[index] ?? job.samples[index] : null} onReroll=${() => reroll(index)} />`)}</div>
    ${done && html`<${FilmControls} film=${film} count=${frames.length + 1} label="How the pictures formed" display=${replaying ? `after call ${frame.call} of ${frame.of}` : "finished"} />`}
    <${Cost} job=${job} />
    ${done && html`<${CodeLine} label="Python" text=${job.python} /><${CodeLine} label="Command" text=${job.command} />`}
    ${job.status === "cancelled" && html`<p class="note">Stopped.</p>`}
  </div>`;
}

export function Generate({ model, samplers, passed, go }) {
  const { form, set, bind, tick } = useForm(START);
  const drawing = useJob(), rerolling = useJob();
  const [index, setIndex] = useState(null), [replaced, setReplaced] = useState({});
  const { job, busy } = drawing, stage = useRef(null);

  const draw = values => {
    const seed = values.fresh ? randomSeed() : values.seed === "" ? 0 : values.seed;
    set({ ...values, seed });
    setReplaced({});
    revealResults(stage.current);
    drawing.start(bodyOf({ ...values, seed }, model));
  };
  useEffect(() => { if (passed?.request) { const values = formOf(passed.request); set(values); if (passed.draw) draw(values); } }, [passed]);
  useEffect(() => {
    if (rerolling.job?.status === "done") setReplaced(previous => ({ ...previous, [index]: rerolling.job.samples[0] }));
  }, [rerolling.job?.status]);

  useEffect(() => { if (model && form.label && !model.classes.includes(form.label)) set({ label: "" }); }, [model?.name]);

  if (!model) {
    return html`<${PageHeader} title="Draw new pictures">A trained model draws new pictures, starting from noise.</${PageHeader}>
      <${EmptyState} title="There is no model yet"><p>Train one first: drop a few hundred of your own pictures, or start with the digits that come with Ornstein.</p>
      <button type="button" class="main" onClick=${() => go("train")}>Train a model</button></${EmptyState}>`;
  }
  const reroll = target => {
    setIndex(target);
    const label = job.samples[target].label ?? job.request.label;
    rerolling.start({ ...job.request, ...(label === undefined || label === null ? {} : { label }), count: 1, seed: randomSeed() });
  };
  const fault = job?.fault ?? null;
  return html`<${PageHeader} title="Draw new pictures">They start as noise and form call by call. “${model.name}” draws
      ${model.kind === "picture" ? ` pictures of ${model.width} × ${model.height} pixels` : ` arrays of ${model.shape.join(" × ")}`}${model.classes.length ? `, in ${plural(model.classes.length, "class", "classes")}` : ""}.</${PageHeader}>
    <div class="bench"><${Form} model=${model} samplers=${samplers} form=${form} set=${set} bind=${bind} tick=${tick} busy=${busy} fault=${fault}
        onSubmit=${event => { event.preventDefault(); draw(form); }} onStop=${drawing.stop} />
      <div class="stage" ref=${stage}>${job && job.status !== "refused" && !(job.status === "failed" && !job.frames.length)
        ? html`<${Stage} model=${model} job=${job} busy=${busy} rerolling=${{ ...rerolling, index }} replaced=${replaced} reroll=${reroll} go=${go} /><${ErrorMessage} fault=${rerolling.job?.fault} />`
        : html`<${EmptyState} title="Nothing drawn yet"><p>Press <b>Draw</b> and watch the pictures form out of noise. They are kept in the gallery, with their settings inside.</p></${EmptyState}>`}</div></div>`;
}

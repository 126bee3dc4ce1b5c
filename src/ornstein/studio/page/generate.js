// Generate: new pictures, as they form.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { chance, many, number, reveal, short, useJob } from "./api.js";
import { Alarm, Choice, Code, Empty, Field, Head, Progress, Slider, Tick, useForm } from "./parts.js";
import { Film, Picture, tiles, useFilm } from "./pictures.js";

const START = { label: "", count: 10, nfe: 20, sampler: "auto", guidance: "", seed: "", fresh: true, condition: {} };
const FIELDS = ["label", "count", "nfe", "sampler", "guidance", "seed", "condition"];

function bodyOf(form, model) {
  const body = { kind: "generate", model: model.name, count: number(form.count), nfe: number(form.nfe), sampler: form.sampler, seed: number(form.seed) };
  if (form.label !== "") body.label = form.label;
  if (number(form.guidance) !== undefined) body.guidance = number(form.guidance);
  const told = model.conditions.map(name => number(form.condition[name]));
  if (told.some(value => value !== undefined)) body.condition = told.map(value => value ?? null);
  return body;
}

// The form that a request stands for, so that the same can be drawn again.
const formOf = request => ({
  ...START, fresh: false, label: String(request.label ?? ""), count: request.count ?? 1, nfe: request.nfe ?? 20, sampler: request.sampler ?? "auto",
  guidance: request.guidance ?? "", seed: request.seed ?? 0,
});

function Conditions({ model, form, set, fault }) {
  return model.conditions.map(name => html`<${Field} key=${name} label=${name} name="condition" type="number" step="any" placeholder="as in the data" fault=${fault}
    value=${form.condition[name] ?? ""} onInput=${event => set({ condition: { ...form.condition, [name]: event.target.value } })} />`);
}

function Form({ model, samplers, form, set, bind, tick, busy, fault, onSubmit, onStop }) {
  const classes = [["", "every class in turn"], ...model.classes.map(name => [name, name])];
  const ways = Object.entries(samplers).map(([name, facts]) => [name, name === "auto" ? "auto (suits this model)" : `${name}${facts.stochastic ? " (random)" : ""}`]);
  const tuned = model.tuned.map(one => one.nfe).filter(nfe => nfe <= 100);
  return html`<form class="controls" onSubmit=${onSubmit} noValidate>
    ${model.classes.length > 0 && html`<${Choice} label="Class" options=${classes} fault=${fault} ...${bind("label")} />`}
    <${Conditions} model=${model} form=${form} set=${set} fault=${fault} />
    <${Field} label="How many" type="number" min="1" max="64" inputmode="numeric" fault=${fault} ...${bind("count")} />
    <${Slider} label="Network calls a picture" min="1" max="100" fault=${fault} hint="Few are quick and coarse, many are slow and fine." ...${bind("nfe")} />
    ${tuned.length > 0 && html`<p class="chips">Tuned for ${tuned.map(nfe => html`<button type="button" class="chip" key=${nfe} onClick=${() => set({ nfe })}>${nfe}</button>`)} calls</p>`}
    <${Field} label="Seed" inputmode="numeric" placeholder="a new one" fault=${fault} hint="The same seed draws the same pictures." ...${bind("seed")} disabled=${form.fresh} />
    <${Tick} label="A new seed each time" ...${tick("fresh")} />
    <details><summary>More</summary>
      <${Choice} label="Sampler" options=${ways} fault=${fault} ...${bind("sampler")} />
      ${model.guidance && html`<${Field} label="Guidance" type="number" step="any" placeholder="1 (none)" fault=${fault} hint="Above 1 pictures are truer to their class, and less varied." ...${bind("guidance")} />`}
    </details>
    <${Alarm} fault=${fault} fields=${FIELDS} />
    <div class="buttons">${busy ? html`<button type="button" onClick=${onStop}>Stop</button>` : html`<button class="main">Draw</button>`}</div>
  </form>`;
}

function Tile({ src, alt, sample, onAgain, go, busy }) {
  return html`<figure class="tile">${src ? html`<${Picture} src=${src} alt=${alt} />` : html`<div class="blank"></div>`}
    ${sample && html`<figcaption>${sample.label && html`<span class="class-name">${sample.label}</span>`}<span class="tile-tools">
      <button type="button" class="quiet" onClick=${onAgain} disabled=${busy} title="Draw this one again, from another seed" aria-label=${`Reroll: ${alt}`}>↻</button>
      <button type="button" class="quiet" onClick=${() => go("edit", { picture: sample })} title="Edit" aria-label=${`Edit: ${alt}`}>✎</button>
      <button type="button" class="quiet" onClick=${() => go("forward", { picture: sample })} title="See it turn into noise" aria-label=${`Forward: ${alt}`}>∿</button>
      <a class="quiet" href=${`${sample.url}?download=true`} title="Download" aria-label=${`Download: ${alt}`}>↓</a></span></figcaption>`}
  </figure>`;
}

function Cost({ job }) {
  if (job.status !== "done") return null;
  const seconds = job.finished - job.started, count = job.samples.length;
  return html`<p class="cost">${many(count, "picture")} · ${many(job.calls.total, "network call")} each · ${short(seconds, 2)} s in all · seed ${String(job.request.seed)}</p>`;
}

function Stage({ model, job, busy, again, swapped, reroll, go }) {
  const frames = job.frames, film = useFilm(frames.length + 1, busy, 260);
  const done = job.status === "done", watching = done && film.place < frames.length;
  const frame = frames[watching ? film.place : frames.length - 1];
  const count = done ? job.samples.length : Math.min(Number(job.request.count) || 1, 64);
  const source = place => {
    const forming = again.busy && again.place === place ? again.job.frames.at(-1)?.images[0] : null;
    if (done && !watching) return forming ?? (swapped[place] ?? job.samples[place]).url;
    return frame?.images[place] ?? (done ? job.samples[place].url : null);
  };
  return html`<div class="stage-body">
    ${busy && html`<${Progress} value=${job.progress} left=${job.left} waits=${job.waits} label=${job.status === "queued" ? "Waiting for its turn" : `Drawing: call ${job.done ?? 0} of ${job.of ?? "…"}`} />`}
    <div class=${model.kind === "picture" ? tiles(count) : "tiles few drawn"}>${Array.from({ length: count }, (_, place) => html`<${Tile} key=${place} src=${source(place)} go=${go} busy=${again.busy}
      alt=${`Picture ${place + 1}${job.samples[place]?.label ? `, ${job.samples[place].label}` : ""}`}
      sample=${done ? swapped[place] ?? job.samples[place] : null} onAgain=${() => reroll(place)} />`)}</div>
    ${done && html`<${Film} film=${film} count=${frames.length + 1} label="How the pictures formed" shown=${watching ? `after call ${frame.call} of ${frame.of}` : "as they are"} />`}
    <${Cost} job=${job} />
    ${done && html`<${Code} label="Python" text=${job.python} /><${Code} label="Command" text=${job.command} />`}
    ${job.status === "cancelled" && html`<p class="note">Stopped.</p>`}
  </div>`;
}

export function Generate({ model, samplers, handed, go }) {
  const { form, set, bind, tick } = useForm(START);
  const drawing = useJob(), single = useJob();
  const [place, setPlace] = useState(null), [swapped, setSwapped] = useState({});
  const { job, busy } = drawing, stage = useRef(null);

  const draw = values => {
    const seed = values.fresh ? chance() : values.seed === "" ? 0 : values.seed;
    set({ ...values, seed });
    setSwapped({});
    reveal(stage.current);
    drawing.start(bodyOf({ ...values, seed }, model));
  };
  useEffect(() => { if (handed?.request) { const told = formOf(handed.request); set(told); if (handed.draw) draw(told); } }, [handed]);
  useEffect(() => {
    if (single.job?.status === "done") setSwapped(before => ({ ...before, [place]: single.job.samples[0] }));
  }, [single.job?.status]);

  useEffect(() => { if (model && form.label && !model.classes.includes(form.label)) set({ label: "" }); }, [model?.name]);

  if (!model) {
    return html`<${Head} title="Draw new pictures">A model that has learnt from pictures draws new ones out of noise.</${Head}>
      <${Empty} title="There is no model yet"><p>Train one first: drop a few hundred of your own pictures, or start with the digits that come with Ornstein.</p>
      <button type="button" class="main" onClick=${() => go("train")}>Train a model</button></${Empty}>`;
  }
  const reroll = at => {
    setPlace(at);
    const label = job.samples[at].label ?? job.request.label;
    single.start({ ...job.request, ...(label === undefined || label === null ? {} : { label }), count: 1, seed: chance() });
  };
  const fault = job?.fault ?? null;
  return html`<${Head} title="Draw new pictures">They begin as noise and form call by call. “${model.name}” draws
      ${model.kind === "picture" ? ` pictures of ${model.width} × ${model.height} pixels` : ` arrays of ${model.shape.join(" × ")}`}${model.classes.length ? `, in ${many(model.classes.length, "class", "classes")}` : ""}.</${Head}>
    <div class="bench"><${Form} model=${model} samplers=${samplers} form=${form} set=${set} bind=${bind} tick=${tick} busy=${busy} fault=${fault}
        onSubmit=${event => { event.preventDefault(); draw(form); }} onStop=${drawing.stop} />
      <div class="stage" ref=${stage}>${job && job.status !== "refused" && !(job.status === "failed" && !job.frames.length)
        ? html`<${Stage} model=${model} job=${job} busy=${busy} again=${{ ...single, place }} swapped=${swapped} reroll=${reroll} go=${go} /><${Alarm} fault=${single.job?.fault} />`
        : html`<${Empty} title="Nothing drawn yet"><p>Press <b>Draw</b>, and watch pictures come out of noise. All that is drawn is kept in the gallery, with its settings inside.</p></${Empty}>`}</div></div>`;
}

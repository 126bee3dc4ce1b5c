// Gallery: all that was drawn, found again by its settings.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { ask, many, query, short, useJob } from "./api.js";
import { Alarm, Choice, Code, Dialog, Empty, Field, Head, Tick, useForm } from "./parts.js";
import { Drop, Picture } from "./pictures.js";

const KINDS = { generate: "drawn", fill: "filled", vary: "varied", interpolate: "blended", restore: "restored", trace: "traced", nearest: "training pictures" };
const WAIT = 250; // milliseconds after the last key before a search

function useSearch(given, shown) {
  const [found, setFound] = useState(null), [fault, setFault] = useState(null), [version, setVersion] = useState(0);
  const asked = query(given);
  useEffect(() => {
    if (!shown) return undefined;
    const stop = new AbortController();
    const timer = setTimeout(() => ask(`/api/gallery?${asked}`, { signal: stop.signal }).then(
      answer => { setFound(answer); setFault(null); }, problem => problem.name !== "AbortError" && setFault(problem)), found ? WAIT : 0);
    return () => { clearTimeout(timer); stop.abort(); };
  }, [asked, shown, version]);
  const more = async () => {
    try {
      const next = await ask(`/api/gallery?${asked}&before=${encodeURIComponent(found.next)}`);
      setFound({ ...next, pictures: [...found.pictures, ...next.pictures] });
    } catch (problem) {
      setFault(problem);
    }
  };
  const change = picture => setFound(before => ({ ...before, pictures: before.pictures.map(one => (one.id === picture.id ? picture : one)) }));
  return { found, fault, more, change, refresh: () => setVersion(now => now + 1) };
}

const named = one => `${KINDS[one.kind] ?? one.kind}${one.label ? `, class ${one.label}` : ""}, seed ${one.seed}, number ${one.number + 1}`;

function Facts({ one }) {
  const rows = [["Model", one.model], ["How", KINDS[one.kind] ?? one.kind], ["Class", one.label], ["Seed", `${one.seed}, number ${one.number + 1}`], ["Calls", one.nfe],
    ["Sampler", one.sampler], ["Guidance", one.guidance], ["Size", `${one.width} × ${one.height} pixels`], ["When", new Date(one.created * 1000).toLocaleString()]];
  return html`<dl class="facts">${rows.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${String(value)}</dd>`)}</dl>`;
}

function Nearest({ one }) {
  const { job, start, busy } = useJob();
  return html`<button type="button" disabled=${busy} onClick=${() => start({ kind: "nearest", model: one.model, picture: one.id, count: 6 })}>${busy ? "Looking …" : "Nearest training pictures"}</button>
    <${Alarm} fault=${job?.fault} />
    ${job?.status === "done" && html`<div class="tiles all plain-caption wide">${job.samples.map((sample, place) => {
      const facts = job.result.neighbours[place];
      return html`<figure class="tile" key=${place}><${Picture} src=${sample.url} alt=${`Training picture ${facts.name}`} /><figcaption>${facts.label && html`<b>${facts.label}</b> `}${facts.name || `row ${facts.row}`}, ${short(facts.distance)} away</figcaption></figure>`;
    })}</div>`}`;
}

function Detail({ one, onChange, onGone, go, models }) {
  const [code, setCode] = useState(null), [fault, setFault] = useState(null);
  useEffect(() => {
    setFault(null);
    ask(`/api/jobs/${one.job}`).then(setCode, () => setCode(null));
  }, [one.id]);
  const mark = async values => {
    try {
      const now = await ask(`/api/gallery/${one.id}`, { method: "PATCH", body: values });
      if ("deleted" in values) onGone();
      else onChange(now);
    } catch (problem) {
      setFault(problem);
    }
  };
  const remove = () => ask(`/api/gallery/${one.id}`, { method: "DELETE" }).then(onGone, setFault);
  const here = models.some(model => model.name === one.model && !model.error);
  return html`<div class="seen"><div><div class="well-shown"><${Picture} src=${one.url} alt=${`Picture: ${named(one)}`} /></div>
      <div class="buttons"><button type="button" aria-pressed=${one.favourite ? "true" : "false"} onClick=${() => mark({ favourite: !one.favourite })}>${one.favourite ? "★ Favourite" : "☆ Favourite"}</button>
        <a class="button" href=${`${one.url}?download=true`}>Download</a></div></div>
    <div><${Facts} one=${one} /><${Alarm} fault=${fault} />
      <div class="buttons">
        ${here && one.kind === "generate" && html`<button type="button" class="main" onClick=${() => go("generate", { request: one.request, model: one.model, draw: true })}>Same again</button>`}
        ${here && html`<button type="button" onClick=${() => go("edit", { picture: one, kind: "vary", strength: 0.4, model: one.model })}>More like this</button>
          <button type="button" onClick=${() => go("edit", { picture: one, kind: "fill", model: one.model })}>Edit</button>
          <button type="button" onClick=${() => go("forward", { picture: one, model: one.model })}>To noise</button>`}
        ${one.deleted ? html`<button type="button" onClick=${() => mark({ deleted: false })}>Take out of the bin</button><button type="button" onClick=${remove}>Delete for good</button>`
          : html`<button type="button" onClick=${() => mark({ deleted: true })}>Move to the bin</button>`}</div>
      ${code && html`<${Code} label="Python" text=${code.python} /><${Code} label="Command" text=${code.command} />`}
      ${here && html`<${Nearest} one=${one} key=${one.id} />`}</div></div>`;
}

// The settings inside a picture that is dropped, and the way to draw it again.
function Reader({ go }) {
  const [told, setTold] = useState(null), [fault, setFault] = useState(null), [busy, setBusy] = useState(false);
  const read = async ([{ file }]) => {
    setBusy(true);
    setFault(null);
    try {
      setTold(await ask("/api/gallery/read", { method: "POST", raw: file }));
    } catch (problem) {
      setTold(null);
      setFault(problem);
    }
    setBusy(false);
  };
  const shown = told && Object.entries(told.settings).filter(([, value]) => typeof value !== "object").map(([name, value]) => [name, String(value).slice(0, 60)]);
  return html`<details class="reader"><summary>Read the settings inside a picture</summary><div class="cards">
    <${Drop} label="Drop a picture that Ornstein made" hint="its settings are read, and can be drawn again" onFiles=${read} busy=${busy} accept="image/*" />
    <${Alarm} fault=${fault} />
    ${told && html`<div class="card"><dl class="facts">${shown.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>
      ${told.model ? html`<div class="buttons">${told.request.kind === "generate" && html`<button type="button" class="main" onClick=${() => go("generate", { request: told.request, model: told.model })}>Fill in its settings</button>`}</div>
        <${Code} label="Python" text=${told.python} /><${Code} label="Command" text=${told.command} />`
        : html`<p class="note">The model that drew it is not here.</p>`}</div>`}</div></details>`;
}

export function Gallery({ model, models, shown, go }) {
  const { form, bind, tick, set } = useForm({ q: "", model: "", kind: "", favourite: false, bin: false });
  const { found, fault, more, change, refresh } = useSearch({ q: form.q, model: form.model, kind: form.kind, favourite: form.favourite ? true : "", bin: form.bin ? true : "", limit: 60 }, shown);
  const [open, setOpen] = useState(null);
  const last = useRef(null);
  const one = found?.pictures.find(picture => picture.id === open);
  if (one) last.current = one;
  const searching = form.q || form.model || form.kind || form.favourite || form.bin;
  const names = [...new Set([...models.map(known => known.name), ...(found?.pictures ?? []).map(picture => picture.model)])];
  return html`<${Head} title="Everything that was drawn">Each picture holds its settings, so that it can be drawn again.</${Head}>
    <form class="filters" role="search" onSubmit=${event => event.preventDefault()}>
      <${Field} label="Search" type="search" placeholder="class, model, sampler or seed" fault=${fault} ...${bind("q")} />
      <${Choice} label="Of model" options=${[["", "all"], ...names.map(name => [name, name])]} ...${bind("model")} />
      <${Choice} label="How" options=${[["", "all ways"], ...Object.entries(KINDS)]} ...${bind("kind")} />
      <div class="ticks"><${Tick} label="Favourites" ...${tick("favourite")} /><${Tick} label="Bin" ...${tick("bin")} /></div></form>
    <p class="note" role="status">${found ? many(found.total, "picture") : ""}</p>
    <${Alarm} fault=${fault} fields=${["q"]} />
    ${found && !found.pictures.length && html`<${Empty} title=${searching ? "Nothing found" : "The gallery is empty"}><p>${searching ? "No picture has these settings." : "All that you draw and edit is kept here. Draw a few pictures first."}</p>
      ${searching ? html`<button type="button" onClick=${() => set({ q: "", model: "", kind: "", favourite: false, bin: false })}>Show all</button>`
        : html`<button type="button" class="main" onClick=${() => go(model ? "generate" : "train")}>${model ? "Draw pictures" : "Train a model"}</button>`}</${Empty}>`}
    <div class="tiles all wall">${found?.pictures.map(picture => html`<button type="button" class="tile" key=${picture.id} onClick=${() => setOpen(picture.id)}>
      <${Picture} src=${picture.url} alt=${named(picture)} loading="lazy" />${picture.favourite && html`<span class="badge" aria-label="favourite">★</span>`}</button>`)}</div>
    ${found?.next && html`<p><button type="button" onClick=${more}>Show more</button></p>`}
    <${Reader} go=${go} />
    <${Dialog} title=${last.current ? `Picture ${last.current.number + 1} of seed ${last.current.seed}` : "Picture"} open=${Boolean(one)} onClose=${() => setOpen(null)} wide>
      ${one && html`<${Detail} one=${one} models=${models} go=${(...where) => { setOpen(null); go(...where); }} onChange=${change} onGone=${() => { setOpen(null); refresh(); }} />`}</${Dialog}>`;
}

// Gallery: search all pictures by their settings, mark them, and read the settings inside a picture.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { fetchJson, formatNumber, plural, query, useJob } from "./api.js";
import { Checkbox, CodeLine, Dialog, EmptyState, ErrorMessage, Field, PageHeader, Select, useForm } from "./components.js";
import { FileDrop, Picture } from "./pictures.js";

const KINDS = { generate: "drawn", fill: "filled", vary: "varied", interpolate: "blended", restore: "restored", trace: "traced", nearest: "training pictures" };
const EDITS = ["fill", "vary", "interpolate", "restore"];
const DELAY = 250; // milliseconds from the last key to the search

function useSearch(filters, shown) {
  const [found, setFound] = useState(null), [fault, setFault] = useState(null), [version, setVersion] = useState(0);
  const search = query(filters);
  useEffect(() => {
    if (!shown) return undefined;
    const controller = new AbortController();
    const timer = setTimeout(() => fetchJson(`/api/gallery?${search}`, { signal: controller.signal }).then(
      page => { setFound(page); setFault(null); }, problem => problem.name !== "AbortError" && setFault(problem)), found ? DELAY : 0);
    return () => { clearTimeout(timer); controller.abort(); };
  }, [search, shown, version]);
  const loadMore = async () => {
    try {
      const page = await fetchJson(`/api/gallery?${search}&before=${encodeURIComponent(found.next)}`);
      setFound({ ...page, pictures: [...found.pictures, ...page.pictures] });
    } catch (problem) {
      setFault(problem);
    }
  };
  const replace = changed => setFound(previous => ({ ...previous, pictures: previous.pictures.map(picture => (picture.id === changed.id ? changed : picture)) }));
  return { found, fault, loadMore, replace, refresh: () => setVersion(previous => previous + 1) };
}

const describe = ({ kind, label, seed, number }) => `${KINDS[kind] ?? kind}${label ? `, class ${label}` : ""}, seed ${seed}, number ${number + 1}`;

function PictureFacts({ picture }) {
  const rows = [["Model", picture.model], ["Kind", KINDS[picture.kind] ?? picture.kind], ["Class", picture.label], ["Seed", `${picture.seed}, number ${picture.number + 1}`], ["Calls", picture.nfe],
    ["Sampler", picture.sampler], ["Guidance", picture.guidance], ["Size", `${picture.width} × ${picture.height} pixels`], ["Date", new Date(picture.created * 1000).toLocaleString()]];
  return html`<dl class="facts">${rows.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${String(value)}</dd>`)}</dl>`;
}

function Nearest({ picture }) {
  const { job, start, busy } = useJob();
  return html`<button type="button" disabled=${busy} onClick=${() => start({ kind: "nearest", model: picture.model, picture: picture.id, count: 6 })}>${busy ? "Searching …" : "Nearest training pictures"}</button>
    <${ErrorMessage} fault=${job?.fault} />
    ${job?.status === "done" && html`<div class="tiles all plain-caption wide">${job.samples.map((sample, index) => {
      const { name, label, row, distance } = job.result.neighbours[index];
      return html`<figure class="tile" key=${index}><${Picture} src=${sample.url} alt=${`Training picture ${name}`} /><figcaption>${label && html`<b>${label}</b> `}${name || `row ${row}`}, distance ${formatNumber(distance)}</figcaption></figure>`;
    })}</div>`}`;
}

function Detail({ picture, onChange, onRemove, go, models }) {
  const [code, setCode] = useState(null), [fault, setFault] = useState(null);
  const { kind, model, request } = picture;
  useEffect(() => {
    setFault(null);
    fetchJson(`/api/jobs/${picture.job}`).then(setCode, () => setCode(null));
  }, [picture.id]);
  const mark = async marks => {
    try {
      const changed = await fetchJson(`/api/gallery/${picture.id}`, { method: "PATCH", body: marks });
      if ("deleted" in marks) onRemove();
      else onChange(changed);
    } catch (problem) {
      setFault(problem);
    }
  };
  const remove = () => fetchJson(`/api/gallery/${picture.id}`, { method: "DELETE" }).then(onRemove, setFault);
  const isServed = models.some(({ name, error }) => name === model && !error);
  return html`<div class="seen"><div><div class="well-shown"><${Picture} src=${picture.url} alt=${`Picture: ${describe(picture)}`} /></div>
      <div class="buttons"><button type="button" aria-pressed=${picture.favourite ? "true" : "false"} onClick=${() => mark({ favourite: !picture.favourite })}>${picture.favourite ? "★ Favourite" : "☆ Favourite"}</button>
        <a class="button" href=${`${picture.url}?download=true`}>Download</a></div></div>
    <div><${PictureFacts} picture=${picture} /><${ErrorMessage} fault=${fault} />
      <div class="buttons">
        ${isServed && kind === "generate" && html`<button type="button" class="main" onClick=${() => go("generate", { request, model, draw: true })}>Draw again</button>`}
        ${isServed && EDITS.includes(kind) && html`<button type="button" class="main" onClick=${() => go("edit", { request, kind, model })}>Edit again</button>`}
        ${isServed && html`<button type="button" onClick=${() => go("edit", { picture, kind: "vary", strength: 0.4, model })}>More like this</button>
          <button type="button" onClick=${() => go("edit", { picture, kind: "fill", model })}>Edit</button>
          <button type="button" onClick=${() => go("forward", { picture, model })}>To noise</button>`}
        ${picture.deleted ? html`<button type="button" onClick=${() => mark({ deleted: false })}>Take out of the bin</button><button type="button" onClick=${remove}>Delete permanently</button>`
          : html`<button type="button" onClick=${() => mark({ deleted: true })}>Move to the bin</button>`}</div>
      ${code && html`<${CodeLine} label="Python" text=${code.python} /><${CodeLine} label="Command" text=${code.command} />`}
      ${isServed && html`<${Nearest} picture=${picture} key=${picture.id} />`}</div></div>`;
}

// The settings inside a dropped picture, with a button to use them.
function SettingsReader({ go }) {
  const [result, setResult] = useState(null), [fault, setFault] = useState(null), [busy, setBusy] = useState(false);
  const read = async ([{ file }]) => {
    setBusy(true);
    setFault(null);
    try {
      setResult(await fetchJson("/api/gallery/read", { method: "POST", raw: file }));
    } catch (problem) {
      setResult(null);
      setFault(problem);
    }
    setBusy(false);
  };
  const settings = result && Object.entries(result.settings).filter(([, value]) => typeof value !== "object").map(([name, value]) => [name, String(value).slice(0, 60)]);
  return html`<details class="reader"><summary>Read the settings inside a picture</summary><div class="cards">
    <${FileDrop} label="Drop a picture made by Ornstein" hint="to read its settings and draw it again" onFiles=${read} busy=${busy} accept="image/*" />
    <${ErrorMessage} fault=${fault} />
    ${result && html`<div class="card"><dl class="facts">${settings.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>
      ${result.model ? html`<div class="buttons">${["generate", ...EDITS].includes(result.request.kind) && html`<button type="button" class="main" onClick=${() =>
          go(result.request.kind === "generate" ? "generate" : "edit", { request: result.request, kind: result.request.kind, model: result.model })}>Use these settings</button>`}</div>
        <${CodeLine} label="Python" text=${result.python} /><${CodeLine} label="Command" text=${result.command} />`
        : html`<p class="note">The model that drew it is not available here.</p>`}</div>`}</div></details>`;
}

export function Gallery({ model, models, shown, go }) {
  const { form, bind, tick, set } = useForm({ q: "", model: "", kind: "", favourite: false, bin: false });
  const { found, fault, loadMore, replace, refresh } = useSearch({ q: form.q, model: form.model, kind: form.kind, favourite: form.favourite ? true : "", bin: form.bin ? true : "", limit: 60 }, shown);
  const [openId, setOpenId] = useState(null);
  const lastOpen = useRef(null); // for the title while the dialog closes
  const open = found?.pictures.find(picture => picture.id === openId);
  if (open) lastOpen.current = open;
  const close = () => setOpenId(null);
  const searching = form.q || form.model || form.kind || form.favourite || form.bin;
  const names = [...new Set([...models.map(({ name }) => name), ...(found?.pictures ?? []).map(picture => picture.model)])];
  return html`<${PageHeader} title="All pictures">Each picture contains its settings, so it can be drawn again.</${PageHeader}>
    <form class="filters" role="search" onSubmit=${event => event.preventDefault()}>
      <${Field} label="Search" type="search" placeholder="class, model, sampler or seed" fault=${fault} ...${bind("q")} />
      <${Select} label="Model" options=${[["", "all"], ...names.map(name => [name, name])]} ...${bind("model")} />
      <${Select} label="Kind" options=${[["", "all"], ...Object.entries(KINDS)]} ...${bind("kind")} />
      <div class="ticks"><${Checkbox} label="Favourites" ...${tick("favourite")} /><${Checkbox} label="Bin" ...${tick("bin")} /></div></form>
    <p class="note" role="status">${found ? plural(found.total, "picture") : ""}</p>
    <${ErrorMessage} fault=${fault} fields=${["q"]} />
    ${found && !found.pictures.length && html`<${EmptyState} title=${searching ? "Nothing found" : "The gallery is empty"}><p>${searching ? "No picture has these settings." : "Everything you draw and edit is kept here. Draw some pictures first."}</p>
      ${searching ? html`<button type="button" onClick=${() => set({ q: "", model: "", kind: "", favourite: false, bin: false })}>Show all</button>`
        : html`<button type="button" class="main" onClick=${() => go(model ? "generate" : "train")}>${model ? "Draw pictures" : "Train a model"}</button>`}</${EmptyState}>`}
    <div class="tiles all wall">${found?.pictures.map(picture => html`<button type="button" class="tile" key=${picture.id} onClick=${() => setOpenId(picture.id)}>
      <${Picture} src=${picture.url} alt=${describe(picture)} loading="lazy" />${picture.favourite && html`<span class="badge" aria-label="favourite">★</span>`}</button>`)}</div>
    ${found?.next && html`<p><button type="button" onClick=${loadMore}>Show more</button></p>`}
    <${SettingsReader} go=${go} />
    <${Dialog} title=${lastOpen.current ? `Picture ${lastOpen.current.number + 1} of seed ${lastOpen.current.seed}` : "Picture"} open=${Boolean(open)} onClose=${close} wide>
      ${open && html`<${Detail} picture=${open} models=${models} go=${(...target) => { close(); go(...target); }} onChange=${replace} onRemove=${() => { close(); refresh(); }} />`}</${Dialog}>`;
}

// Train: drop pictures, start a training and follow it; below, all models with their reports.
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import { Fault, PROCESS_ENDED, fetchJson, formatNumber, isProcessActive, listen, parseNumber, plural, post, upload } from "./api.js";
import { Chart } from "./chart.js";
import { Checkbox, CodeLine, EmptyState, ErrorMessage, Field, PageHeader, Progress, Select, useForm } from "./components.js";
import { FileDrop, FilmControls, Picture, useFilm } from "./pictures.js";
import { Models } from "./models.js";
import { packUploads } from "./packing.js";

const SENDERS = 4, MAX_SINGLE = 50; // simultaneous uploads, and the number of pictures above which they are packed
const ACCEPTED = /\.(png|jpe?g|jpe|jfif|webp|gif|bmp|tiff?|avif|heic|zip)$/i;
const SIZES = [["", "automatic"], ...[8, 16, 24, 32, 48, 64].map(side => [side, `${side} × ${side}`])];
const FIELDS = ["name", "minutes", "size", "classes", "from"];

// At most so many entries of a list, evenly spaced.
const sampleOf = (list, limit) => (list.length <= limit ? list : Array.from({ length: limit }, (_, index) => list[Math.floor(index * list.length / limit)]));

// Sort out the chosen files before anything is sent.
function inspect(files) {
  const accepted = files.filter(({ file, path }) => ACCEPTED.test(path) || file.type.startsWith("image/"));
  const folders = [...new Set(accepted.map(({ path }) => path.split("/").slice(0, -1).pop()).filter(Boolean))];
  return { accepted, folders, hasZip: accepted.some(({ path }) => /\.zip$/i.test(path)), ignored: files.length - accepted.length, bytes: accepted.reduce((sum, { file }) => sum + file.size, 0) };
}

function Selection({ selection, onClear }) {
  const { accepted, folders, hasZip, ignored, bytes } = selection;
  const urls = useMemo(() => sampleOf(accepted.filter(({ file }) => file.type.startsWith("image/")), 24).map(({ file }) => URL.createObjectURL(file)), [selection]);
  useEffect(() => () => urls.forEach(url => URL.revokeObjectURL(url)), [urls]);
  return html`<div class="card"><div class="row"><h2>${plural(accepted.length, "file")} selected</h2><button type="button" class="quiet" onClick=${onClear}>Choose others</button></div>
    <p class="note">${bytes < 1e5 ? "Less than 0.1" : (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB${folders.length > 1 ? `, in ${plural(folders.length, "folder")}: ${folders.slice(0, 8).join(", ")}${folders.length > 8 ? " …" : ""}` : ""}.
      ${ignored > 0 && ` ${plural(ignored, "file")} ignored (not ${ignored === 1 ? "a picture" : "pictures"}).`}</p>
    ${accepted.length < 100 && !hasZip && html`<p class="note">A few hundred pictures are better: with so few, the model memorises them.</p>`}
    <div class="thumbs">${urls.map((url, index) => html`<img src=${url} alt=${`Selected picture ${index + 1}`} key=${url} />`)}</div></div>`;
}

async function sendAll(files, onProgress) {
  const single = files.map(entry => ({ files: [entry], content: async () => entry.file }));
  const uploads = files.length > MAX_SINGLE ? packUploads(files) : single, ids = [], refused = [];
  let next = 0, done = 0;
  const send = async () => {
    while (next < uploads.length) {
      const { files: group, content } = uploads[next++], [{ path }] = group;
      try {
        const file = await content();
        ids.push((await upload(file, group.length > 1 ? file.name : path)).id);
      } catch (fault) {
        refused.push(`${path}: ${fault.message}`);
      }
      onProgress(done += group.length);
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, send));
  if (!ids.length) throw new Fault(refused[0] ?? "Nothing was sent.");
  return { ids, refused };
}

// The name, with a number if a model has it already.
function uniqueName(name, models) {
  const taken = new Set(models.map(model => model.name));
  let number = 1;
  while (taken.has(number > 1 ? `${name} ${number}` : name)) number++;
  return number > 1 ? `${name} ${number}` : name;
}

function NewTraining({ models, onStart }) {
  const { form, set, bind, tick } = useForm({ name: "", minutes: 10, size: "", classes: true, from: "" });
  const [selection, setSelection] = useState(null), [sent, setSent] = useState(null), [fault, setFault] = useState(null), [refused, setRefused] = useState([]);
  const select = files => {
    const chosen = inspect(files), { accepted } = chosen;
    setFault(accepted.length ? null : new Fault("None of these files is a picture or a zip of pictures."));
    if (!accepted.length) return;
    setSelection(chosen);
    setRefused([]);
    const top = accepted[0].path.includes("/") || chosen.hasZip ? accepted[0].path.split("/")[0].replace(/\.zip$/i, "") : "my pictures";
    if (!form.name) set({ name: uniqueName(top.slice(0, 56), models) });
  };
  const start = async (body, files) => {
    setFault(null);
    try {
      if (files) {
        setSent(0);
        const uploaded = await sendAll(files, setSent);
        setRefused(uploaded.refused);
        body.files = uploaded.ids;
      }
      const training = await post("/api/trainings", body);
      setSelection(null);
      onStart(training);
    } catch (problem) {
      setFault(problem);
    }
    setSent(null);
  };
  const submit = event => {
    event.preventDefault();
    const body = { name: form.name.trim(), minutes: parseNumber(form.minutes) };
    if (form.size !== "") body.size = Number(form.size);
    if (!form.classes) body.classes = false; // by default classes are learned if there are any
    if (form.from !== "") body.from = form.from;
    start(body, selection.accepted);
  };
  if (!selection) {
    return html`<div class="cards"><div class="first"><${FileDrop} label="Drop your pictures here" hint="files, a folder, or a zip whose folders are the classes; or press to choose files" onFiles=${select} multiple folder accept="image/*,.zip" />
      <${ErrorMessage} fault=${fault} /></div>
      <p class="row start"><span class="note">No pictures at hand?</span><button type="button" onClick=${() => start({ name: uniqueName("digits", models), data: "digits", minutes: 1 })}>Train on handwritten digits for a minute</button></p></div>`;
  }
  const sending = sent !== null;
  return html`<div class="bench"><form class="controls" onSubmit=${submit} noValidate>
      <${Field} label="Name of the model" maxlength="64" fault=${fault} ...${bind("name")} />
      <${Field} label="Minutes" type="number" min="0.5" max="1440" step="any" fault=${fault} hint="Ten minutes are a start; longer is better." ...${bind("minutes")} />
      <${Select} label="Size in pixels" options=${SIZES} fault=${fault} hint="Small pictures train much faster." ...${bind("size")} />
      ${models.length > 0 && html`<${Select} label="Start from" options=${[["", "scratch"], ...models.filter(model => !model.error).map(({ name }) => [name, name])]} fault=${fault} ...${bind("from")} />`}
      ${(selection.folders.length > 1 || selection.hasZip) && html`<${Checkbox} label="Use the folders as classes" ...${tick("classes")} />`}
      <${ErrorMessage} fault=${fault} fields=${FIELDS.filter(name => name !== "classes")} />
      ${sending ? html`<${Progress} value=${sent / selection.accepted.length} label=${`Sending ${sent} of ${selection.accepted.length}`} />` : html`<div class="buttons"><button class="main">Start training</button></div>`}
    </form><${Selection} selection=${selection} onClear=${() => setSelection(null)} /></div>
    ${refused.length > 0 && html`<p class="note">${plural(refused.length, "file")} could not be used. ${refused[0]}</p>`}`;
}

// The metrics, log and previews of a training, followed while it is active.
function useTraining(training, onChange) {
  const [points, setPoints] = useState([]), [log, setLog] = useState([]), [previews, setPreviews] = useState(training.previews ?? []), [live, setLive] = useState({}), [fault, setFault] = useState(null);
  const latest = useRef({});
  latest.current = { onChange, needsNotes: !training.chosen?.length }; // notes and choices are known once it has started
  const { id } = training, isActive = isProcessActive(training);
  useEffect(() => {
    let isMounted = true;
    const onFault = problem => isMounted && setFault(problem);
    const loadPoints = () => fetchJson(`/api/trainings/${id}/metrics`).then(result => isMounted && setPoints(result.points), onFault);
    const refresh = () => fetchJson(`/api/trainings/${id}`).then(changed => { if (isMounted) { setPreviews(changed.previews ?? []); latest.current.onChange(changed); } }, onFault);
    loadPoints();
    if (!isActive) return () => { isMounted = false; };
    const handlers = {
      status: changed => latest.current.onChange(changed),
      metrics: point => { if (latest.current.needsNotes) refresh(); setLive(point); setPoints(previous => (point.loss === null ? previous : [...previous, point])); },
      log: ({ line }) => setLog(previous => [...previous.slice(-199), line]),
      preview: preview => setPreviews(previous => (previous.some(({ images }) => images === preview.images) ? previous : [...previous, preview])),
    };
    for (const kind of PROCESS_ENDED) handlers[kind] = () => { refresh(); loadPoints(); };
    const stop = listen(`/api/trainings/${id}/events`, handlers, PROCESS_ENDED, refresh);
    return () => { isMounted = false; stop(); };
  }, [id, isActive]);
  return { points, log, previews, live, fault };
}

const Notes = ({ title, list }) => list?.length > 0 && html`<div><h3>${title}</h3><ul class="reasons">${list.map(text => html`<li key=${text}>${text}</li>`)}</ul></div>`;

// The curves of both losses over the number of pictures seen; points with the same number are merged.
function curves(points) {
  const merged = new Map();
  for (const { images, loss, held_out: heldOut } of points) merged.set(images, { loss: loss ?? merged.get(images)?.loss ?? null, heldOut: heldOut ?? merged.get(images)?.heldOut ?? null });
  const sorted = [...merged].sort(([a], [b]) => a - b);
  return [sorted.map(([images]) => images), sorted.map(([, point]) => point.loss), sorted.map(([, point]) => point.heldOut)];
}

function TrainingDetails({ training, onChange, go, reload }) {
  const { points, log, previews, live, fault } = useTraining(training, onChange);
  const [actionFault, setActionFault] = useState(null);
  const film = useFilm(previews.length, false, 500);
  const isActive = isProcessActive(training), state = isActive ? { ...training, ...live } : training, preview = previews[film.frame];
  const [images, loss, heldOut] = useMemo(() => curves(points), [points]);
  const send = async (method, path = "") => {
    setActionFault(null);
    try {
      onChange(await fetchJson(`/api/trainings/${training.id}${path}`, { method }));
    } catch (problem) {
      setActionFault(problem);
    }
  };
  useEffect(() => { if (training.model) reload(); }, [training.model, training.status]);
  return html`
    ${isActive && html`<${Progress} value=${state.progress ?? 0} secondsLeft=${state.seconds_left}
      label=${training.status === "waiting" ? `Waiting, ${training.position ?? 0} ahead` : state.images ? `${plural(state.images, "picture")} seen${state.rate ? `, ${Math.round(state.rate)} per second` : ""}` : "Getting ready"} />`}
    <${ErrorMessage} fault=${actionFault ?? fault} />
    ${training.error && html`<p class="alarm" role="alert">${training.error}</p>`}
    ${(isActive || points.length > 1 || preview) && html`<div class="watch">
      ${points.length > 1 ? html`<${Chart} label="Loss by pictures seen" x=${images} height=${230} xLabel="pictures seen" lines=${[{ name: "loss", y: loss, ink: "--c1" }, { name: "on held-out pictures", y: heldOut, ink: "--c2", dots: true }]} />`
        : isActive && html`<p class="note">The loss curve starts in a few seconds.</p>`}
      ${preview ? html`<div class="preview-sheet"><${Picture} src=${preview.url} alt=${`Samples after ${preview.images} pictures`} />
        <${FilmControls} film=${film} count=${previews.length} label="Previews of the training" display=${`after ${preview.images.toLocaleString("en")}`} /></div>` : isActive && html`<p class="note">Samples drawn during the training appear here.</p>`}</div>`}
    <div class="reads"><${Notes} title="Notes" list=${training.notes} /><${Notes} title="Chosen settings" list=${training.chosen} /></div>
    <div class="buttons">
      ${training.model && html`<button type="button" class="main" onClick=${() => go("generate", { model: training.model })}>Draw with it</button>`}
      ${["waiting", "running"].includes(training.status) && html`<button type="button" onClick=${() => send("DELETE")}>Stop and save</button>`}
      ${["stopped", "failed"].includes(training.status) && html`<button type="button" onClick=${() => send("POST", "/resume")}>Resume</button>`}
      ${state.loss != null && html`<span class="note">loss ${formatNumber(state.loss)}${state.held_out != null ? `, ${formatNumber(state.held_out)} on held-out pictures` : ""}</span>`}</div>
    ${log.length > 0 && html`<details><summary>Log</summary><pre class="log" tabindex="0">${log.join("\n")}</pre></details>`}
    <${CodeLine} label="Command" text=${training.command} />`;
}

function Training({ latest, ...rest }) {
  const { training } = rest;
  const [open, setOpen] = useState(latest || isProcessActive(training));
  return html`<details class="card training" open=${open} onToggle=${event => setOpen(event.target.open)}>
    <summary><h3>${training.name}</h3><span class="note">${new Date(training.created * 1000).toLocaleString()}</span><span class=${`status ${training.status}`}>${training.status}</span></summary>
    ${open && html`<div class="cards"><${TrainingDetails} ...${rest} /></div>`}</details>`;
}

export function Train({ model, models, shown, go, reload }) {
  const [trainings, setTrainings] = useState(null), [fault, setFault] = useState(null);
  useEffect(() => { if (shown) fetchJson("/api/trainings").then(list => setTrainings(list.trainings), setFault); }, [shown]);
  const update = changed => setTrainings(previous => (previous.some(({ id }) => id === changed.id) ? previous.map(training => (training.id === changed.id ? changed : training)) : [changed, ...previous]));
  return html`<${PageHeader} title="Train a model on your pictures">Drop a few hundred pictures of one kind. After some minutes the model draws new ones.</${PageHeader}>
    <${NewTraining} models=${models} onStart=${update} /><${ErrorMessage} fault=${fault} />
    ${trainings?.length > 0 && html`<h2 class="below">Trainings</h2><div class="cards">${trainings.map((training, index) => html`<${Training} key=${training.id} latest=${index === 0} training=${training} onChange=${update} go=${go} reload=${reload} />`)}</div>`}
    ${trainings && !trainings.length && !model && html`<${EmptyState} title="Nothing has been trained yet"><p>Start a training above. You can watch it, stop it, and resume it later.</p></${EmptyState}>`}
    <${Models} models=${models} go=${go} reload=${reload} />`;
}

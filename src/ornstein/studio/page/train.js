// Train: pictures dropped, a model learnt from them, watched as it learns; and all models with their reports.
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import { Fault, ask, listen, many, number, post, short, upload } from "./api.js";
import { Chart } from "./chart.js";
import { Alarm, Choice, Code, Empty, Field, Head, Progress, Tick, useForm } from "./parts.js";
import { Drop, Film, Picture, useFilm } from "./pictures.js";
import { Models } from "./models.js";
import { packed } from "./packing.js";

const SENDERS = 4, MOST_SINGLE = 50; // uploads at once, and pictures that are sent one by one
const KIND = /\.(png|jpe?g|jpe|jfif|webp|gif|bmp|tiff?|avif|heic|zip)$/i;
const SIZES = [["", "what suits the pictures"], ...[8, 16, 24, 32, 48, 64].map(side => [side, `${side} × ${side}`])];
const FIELDS = ["name", "minutes", "size", "classes", "from"];
const GOING = ["waiting", "running", "stopping"];

// So many of a list, from all of it.
const some = (list, most) => (list.length <= most ? list : Array.from({ length: most }, (_, place) => list[Math.floor(place * list.length / most)]));

// What was dropped, before anything is sent.
function look(files) {
  const used = files.filter(({ file, path }) => KIND.test(path) || file.type.startsWith("image/"));
  const folders = [...new Set(used.map(({ path }) => path.split("/").slice(0, -1).pop()).filter(Boolean))];
  return { used, folders, zip: used.some(({ path }) => /\.zip$/i.test(path)), left: files.length - used.length, bytes: used.reduce((sum, { file }) => sum + file.size, 0) };
}

function Found({ found, onClear }) {
  const shown = useMemo(() => some(found.used.filter(({ file }) => file.type.startsWith("image/")), 24).map(({ file }) => URL.createObjectURL(file)), [found]);
  useEffect(() => () => shown.forEach(url => URL.revokeObjectURL(url)), [shown]);
  return html`<div class="card"><div class="row"><h2>${many(found.used.length, "file")} found</h2><button type="button" class="quiet" onClick=${onClear}>Choose others</button></div>
    <p class="note">${found.bytes < 1e5 ? "Less than 0.1" : (found.bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB${found.folders.length > 1 ? `, in ${many(found.folders.length, "folder")}: ${found.folders.slice(0, 8).join(", ")}${found.folders.length > 8 ? " …" : ""}` : ""}.
      ${found.left > 0 && ` ${many(found.left, "file")} that ${found.left === 1 ? "is no picture is" : "are no pictures are"} left out.`}</p>
    ${found.used.length < 100 && !found.zip && html`<p class="note">A few hundred pictures are better: of so few a model learns the pictures themselves, rather than their kind.</p>`}
    <div class="thumbs">${shown.map((url, place) => html`<img src=${url} alt=${`Picture ${place + 1} of those found`} key=${url} />`)}</div></div>`;
}

async function sendAll(files, told) {
  const each = files.map(one => ({ files: [one], send: async () => one.file }));
  const groups = files.length > MOST_SINGLE ? packed(files) : each, ids = [], refused = [];
  let next = 0, done = 0;
  const send = async () => {
    while (next < groups.length) {
      const group = groups[next++], [{ path }] = group.files;
      try {
        const file = await group.send();
        ids.push((await upload(file, group.files.length > 1 ? file.name : path)).id);
      } catch (fault) {
        refused.push(`${path}: ${fault.message}`);
      }
      told(done += group.files.length);
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, send));
  if (!ids.length) throw new Fault(refused[0] ?? "Nothing was sent.");
  return { ids, refused };
}

// A name that no model has.
function free(name, models) {
  const taken = new Set(models.map(one => one.name));
  let number = 1;
  while (taken.has(number > 1 ? `${name} ${number}` : name)) number++;
  return number > 1 ? `${name} ${number}` : name;
}

function Begin({ models, onBegun }) {
  const { form, set, bind, tick } = useForm({ name: "", minutes: 10, size: "", classes: true, from: "" });
  const [found, setFound] = useState(null), [sent, setSent] = useState(null), [fault, setFault] = useState(null), [refused, setRefused] = useState([]);
  const take = files => {
    const next = look(files);
    setFault(next.used.length ? null : new Fault("None of these files is a picture or a zip of pictures."));
    if (!next.used.length) return;
    setFound(next);
    setRefused([]);
    const top = next.used[0].path.includes("/") || next.zip ? next.used[0].path.split("/")[0].replace(/\.zip$/i, "") : "my pictures";
    if (!form.name) set({ name: free(top.slice(0, 56), models) });
  };
  const begin = async (body, files) => {
    setFault(null);
    try {
      if (files) {
        setSent(0);
        const { ids, refused: bad } = await sendAll(files, setSent);
        setRefused(bad);
        body.files = ids;
      }
      const training = await post("/api/trainings", body);
      setFound(null);
      onBegun(training);
    } catch (problem) {
      setFault(problem);
    }
    setSent(null);
  };
  const submit = event => {
    event.preventDefault();
    const body = { name: form.name.trim(), minutes: number(form.minutes) };
    if (form.size !== "") body.size = Number(form.size);
    if (!form.classes) body.classes = false; // else the classes are learnt where there are some
    if (form.from !== "") body.from = form.from;
    begin(body, found.used);
  };
  if (!found) {
    return html`<div class="cards"><div class="first"><${Drop} label="Drop your pictures here" hint="files, a folder, or a zip whose folders are the classes; or press to choose files" onFiles=${take} multiple folder accept="image/*,.zip" />
      <${Alarm} fault=${fault} /></div>
      <p class="row start"><span class="note">No pictures at hand?</span><button type="button" onClick=${() => begin({ name: free("digits", models), data: "digits", minutes: 1 })}>Learn handwritten digits, in a minute</button></p></div>`;
  }
  const sending = sent !== null;
  return html`<div class="bench"><form class="controls" onSubmit=${submit} noValidate>
      <${Field} label="Name of the model" maxlength="64" fault=${fault} ...${bind("name")} />
      <${Field} label="Minutes" type="number" min="0.5" max="1440" step="any" fault=${fault} hint="Ten are a beginning; the longer, the better." ...${bind("minutes")} />
      <${Choice} label="Size in pixels" options=${SIZES} fault=${fault} hint="Small ones are learnt much faster." ...${bind("size")} />
      ${models.length > 0 && html`<${Choice} label="Start from" options=${[["", "nothing"], ...models.filter(one => !one.error).map(one => [one.name, one.name])]} fault=${fault} ...${bind("from")} />`}
      ${(found.folders.length > 1 || found.zip) && html`<${Tick} label="Learn the folders as classes" ...${tick("classes")} />`}
      <${Alarm} fault=${fault} fields=${FIELDS.filter(name => name !== "classes")} />
      ${sending ? html`<${Progress} value=${sent / found.used.length} label=${`Sending ${sent} of ${found.used.length}`} />` : html`<div class="buttons"><button class="main">Start training</button></div>`}
    </form><${Found} found=${found} onClear=${() => setFound(null)} /></div>
    ${refused.length > 0 && html`<p class="note">${many(refused.length, "file")} could not be used. ${refused[0]}</p>`}`;
}

// Everything that happens to a training, while it is looked at.
function useTraining(first, onChange) {
  const [points, setPoints] = useState([]), [log, setLog] = useState([]), [previews, setPreviews] = useState(first.previews ?? []), [live, setLive] = useState({}), [fault, setFault] = useState(null);
  const told = useRef(onChange);
  told.current = onChange;
  told.waits = !first.chosen?.length; // for what was found and chosen, which is known once it begins
  const going = GOING.includes(first.status);
  useEffect(() => {
    let here = true;
    const readPoints = () => ask(`/api/trainings/${first.id}/metrics`).then(answer => here && setPoints(answer.points), problem => here && setFault(problem));
    const again = () => ask(`/api/trainings/${first.id}`).then(now => { if (here) { setPreviews(now.previews ?? []); told.current(now); } }, problem => here && setFault(problem));
    readPoints();
    if (!going) return () => { here = false; };
    const heard = {
      status: now => told.current(now), metrics: point => { if (told.waits) again(); setLive(point); setPoints(before => (point.loss === null ? before : [...before, point])); },
      log: ({ line }) => setLog(before => [...before.slice(-199), line]),
      preview: one => setPreviews(before => (before.some(old => old.images === one.images) ? before : [...before, one])),
    };
    for (const kind of ["done", "failed", "stopped"]) heard[kind] = () => { again(); readPoints(); };
    const stop = listen(`/api/trainings/${first.id}/events`, heard, ["done", "failed", "stopped"], again);
    return () => { here = false; stop(); };
  }, [first.id, going]);
  return { points, log, previews, live, fault };
}

const Reasons = ({ title, list }) => list?.length > 0 && html`<div><h3>${title}</h3><ul class="reasons">${list.map(one => {
  const text = typeof one === "string" ? one : [`${one.name}: ${one.value}`, one.reason ?? one.why].filter(Boolean).join(", ");
  return html`<li key=${text}>${text}</li>`;
})}</ul></div>`;

// Losses by pictures seen, one for each number of them.
function curves(points) {
  const found = new Map();
  for (const { images, loss, held_out: held } of points) found.set(images, { loss: loss ?? found.get(images)?.loss ?? null, held: held ?? found.get(images)?.held ?? null });
  const sorted = [...found].sort(([one], [other]) => one - other);
  return [sorted.map(([images]) => images), sorted.map(([, one]) => one.loss), sorted.map(([, one]) => one.held)];
}

function Course({ training, onChange, go, reload }) {
  const { points, log, previews, live, fault } = useTraining(training, onChange);
  const [own, setOwn] = useState(null);
  const film = useFilm(previews.length, false, 500);
  const going = GOING.includes(training.status), now = going ? { ...training, ...live } : training, shown = previews[film.place];
  const [images, loss, held] = useMemo(() => curves(points), [points]);
  const act = async (method, path = "") => {
    setOwn(null);
    try {
      onChange(await ask(`/api/trainings/${training.id}${path}`, { method }));
    } catch (problem) {
      setOwn(problem);
    }
  };
  useEffect(() => { if (training.model) reload(); }, [training.model, training.status]);
  return html`
    ${going && html`<${Progress} value=${now.progress ?? 0} left=${now.seconds_left}
      label=${training.status === "waiting" ? `Waiting: ${training.position ?? 0} before it` : now.images ? `${many(now.images, "picture")} seen${now.rate ? `, ${Math.round(now.rate)} a second` : ""}` : "Getting ready"} />`}
    <${Alarm} fault=${own ?? fault} />
    ${training.error && html`<p class="alarm" role="alert">${typeof training.error === "string" ? training.error : training.error.error}</p>`}
    ${(going || points.length > 1 || shown) && html`<div class="watch">
      ${points.length > 1 ? html`<${Chart} label="Loss by pictures seen" x=${images} height=${230} xLabel="pictures seen" lines=${[{ name: "loss", y: loss, ink: "--c1" }, { name: "on pictures never trained on", y: held, ink: "--c2", dots: true }]} />`
        : going && html`<p class="note">The curve of the loss begins in a few seconds.</p>`}
      ${shown ? html`<div class="preview-sheet"><${Picture} src=${shown.url} alt=${`Drawn after ${shown.images} pictures`} />
        <${Film} film=${film} count=${previews.length} label="Previews of the training" shown=${`after ${shown.images.toLocaleString("en")}`} /></div>` : going && html`<p class="note">Pictures that it draws on the way appear here.</p>`}</div>`}
    <div class="reads"><${Reasons} title="What was found" list=${training.notes} /><${Reasons} title="What was chosen" list=${training.chosen} /></div>
    <div class="buttons">
      ${training.model && html`<button type="button" class="main" onClick=${() => go("generate", { model: training.model })}>Draw with it</button>`}
      ${["waiting", "running"].includes(training.status) && html`<button type="button" onClick=${() => act("DELETE")}>Stop and save</button>`}
      ${["stopped", "failed"].includes(training.status) && html`<button type="button" onClick=${() => act("POST", "/resume")}>Go on</button>`}
      ${now.loss != null && html`<span class="note">loss ${short(now.loss)}${now.held_out != null ? `, ${short(now.held_out)} on unseen ones` : ""}</span>`}</div>
    ${log.length > 0 && html`<details><summary>Its log</summary><pre class="log" tabindex="0">${log.join("\n")}</pre></details>`}
    <${Code} label="Command" text=${training.command} />`;
}

function Training({ latest, ...rest }) {
  const { training } = rest;
  const [open, setOpen] = useState(latest || GOING.includes(training.status));
  return html`<details class="card training" open=${open} onToggle=${event => setOpen(event.target.open)}>
    <summary><h3>${training.name}</h3><span class="note">${new Date(training.created * 1000).toLocaleString()}</span><span class=${`status ${training.status}`}>${training.status}</span></summary>
    ${open && html`<div class="cards"><${Course} ...${rest} /></div>`}</details>`;
}

export function Train({ model, models, shown, go, reload }) {
  const [trainings, setTrainings] = useState(null), [fault, setFault] = useState(null);
  useEffect(() => { if (shown) ask("/api/trainings").then(answer => setTrainings(answer.trainings), setFault); }, [shown]);
  const change = now => setTrainings(before => (before.some(one => one.id === now.id) ? before.map(one => (one.id === now.id ? now : one)) : [now, ...before]));
  return html`<${Head} title="Teach a model your pictures">Drop a few hundred pictures of one kind. After some minutes it draws new ones.</${Head}>
    <${Begin} models=${models} onBegun=${change} /><${Alarm} fault=${fault} />
    ${trainings?.length > 0 && html`<h2 class="below">Trainings</h2><div class="cards">${trainings.map((one, place) => html`<${Training} key=${one.id} latest=${place === 0} training=${one} onChange=${change} go=${go} reload=${reload} />`)}</div>`}
    ${trainings && !trainings.length && !model && html`<${Empty} title="Nothing has been trained yet"><p>Begin above. You can watch it learn, stop it, and go on later.</p></${Empty}>`}
    <${Models} models=${models} go=${go} reload=${reload} />`;
}

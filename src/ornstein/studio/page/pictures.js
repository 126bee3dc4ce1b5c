// Pictures: showing them, dropping files, picking from the gallery, and films.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { fetchJson, query, randomSeed, upload, useJob } from "./api.js";
import { Dialog, ErrorMessage, useId } from "./components.js";

const SMALL = 160; // width in pixels below which a picture is enlarged with sharp pixels

export function Picture({ src, alt, ...rest }) {
  const [sharp, setSharp] = useState(true);
  return html`<img src=${src} alt=${alt} class=${sharp ? "sharp" : ""} decoding="async"
    onLoad=${event => setSharp(event.target.naturalWidth < SMALL)} ...${rest} />`;
}

// The CSS classes of a grid with so many pictures.
export const tiles = count => `tiles ${count <= 1 ? "one" : count <= 4 ? "few" : count <= 16 ? "some" : "all"}`;

// The files that were dropped on an element, with those inside folders.
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(entry => entry.isDirectory)) return [...transfer.files].map(file => ({ file, path: file.name }));
  const files = [];
  const walk = async (entry, path) => {
    if (entry.name.startsWith(".")) return;
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      files.push({ file, path: path + entry.name });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const children = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!children.length) return;
      for (const child of children) await walk(child, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return files;
}

// An area to drop files on, which is also a button.
export function FileDrop({ label, hint, onFiles, multiple = false, folder = false, accept = "image/*,.npy", busy, invalid, describedBy }) {
  const [over, setOver] = useState(false);
  const id = useId("drop");
  const onDrop = async event => {
    event.preventDefault();
    setOver(false);
    const files = await droppedFiles(event.dataTransfer);
    if (files.length) onFiles(multiple ? files : files.slice(0, 1));
  };
  const onChange = event => {
    const files = [...event.target.files].map(file => ({ file, path: file.webkitRelativePath || file.name }));
    event.target.value = "";
    if (files.length) onFiles(files);
  };
  return html`<div class=${`drop${over ? " over" : ""}${invalid ? " wrong" : ""}`} onDragOver=${event => { event.preventDefault(); setOver(true); }}
    onDragLeave=${() => setOver(false)} onDrop=${onDrop}>
    <label for=${id}><strong>${busy ? "Reading …" : label}</strong>${hint && html`<span>${hint}</span>`}</label>
    <input id=${id} type="file" accept=${accept} multiple=${multiple} onChange=${onChange} aria-describedby=${describedBy} />
    ${folder && html`<label class="folder">or choose a folder<input type="file" webkitdirectory multiple onChange=${onChange} /></label>`}
  </div>`;
}

function GalleryPicker({ open, onClose, onPick, model }) {
  const [pictures, setPictures] = useState(null);
  useEffect(() => {
    if (open) fetchJson(`/api/gallery?${query({ model, limit: 60 })}`).then(page => setPictures(page.pictures), () => setPictures([]));
  }, [open, model]);
  return html`<${Dialog} title="Choose a picture" open=${open} onClose=${onClose} wide>
    ${pictures?.length === 0 && html`<p>There are no pictures from this model yet. Draw some under Generate first.</p>`}
    <div class="tiles all">${pictures?.map(picture => html`<button type="button" class="tile" key=${picture.id} onClick=${() => { onPick(picture); onClose(); }}>
      <${Picture} src=${picture.url} alt=${`Picture ${picture.number + 1} of seed ${picture.seed}${picture.label ? `, ${picture.label}` : ""}`} /></button>`)}</div>
  </${Dialog}>`;
}

// A button that has the model draw the picture that a form needs.
export function DrawOne({ model, onPick }) {
  const { job, start, busy } = useJob();
  useEffect(() => { if (job?.status === "done") onPick(job.samples[0]); }, [job?.status]);
  return html`<button type="button" class="main" disabled=${busy} onClick=${() => start({ kind: "generate", model: model.name, count: 1, seed: randomSeed() })}>${busy ? "Drawing …" : "Draw one"}</button>
    <${ErrorMessage} fault=${job?.fault} />`;
}

// A picture or array as the input of a form: dropped, chosen, or from the gallery.
export function PictureInput({ label, name, value, onChange, fault, small, model }) {
  const [uploadError, setUploadError] = useState(null), [busy, setBusy] = useState(false), [picking, setPicking] = useState(false);
  const errorId = useId("well");
  const error = uploadError ?? (fault?.field === name ? fault.message : null);
  const send = async ([{ file }]) => {
    setBusy(true);
    setUploadError(null);
    try {
      onChange(await upload(file));
    } catch (problem) {
      setUploadError(problem.message);
    }
    setBusy(false);
  };
  return html`<div class=${small ? "well small" : "well"}><h2 class="well-label">${label}</h2>
    ${value?.url && !small && html`<div class="well-shown"><${Picture} src=${value.url} alt=${label} /></div>`}
    <${FileDrop} label=${`Drop ${value || small ? "another" : "a"} ${model.kind === "picture" ? "picture" : ".npy file"}`} hint="or press to choose a file" accept=${model.kind === "picture" ? "image/*,.npy" : ".npy"} onFiles=${send} busy=${busy} invalid=${error} describedBy=${errorId} />
    <button type="button" class="quiet" onClick=${() => setPicking(true)}>From the gallery</button>
    <p class="hint" id=${errorId} role=${error ? "alert" : null}>${error}</p>
    <${GalleryPicker} model=${model.name} open=${picking} onClose=${() => setPicking(false)} onPick=${picture => { setUploadError(null); onChange(picture); }} />
  </div>`;
}

// The state of a film with so many frames, such as the previews of a job or of a training.
export function useFilm(count, running, interval = 220) {
  const [frame, setFrame] = useState(null), [playing, setPlaying] = useState(false);
  const reducedMotion = useRef(matchMedia("(prefers-reduced-motion: reduce)").matches);
  useEffect(() => {
    if (!playing || count < 2) return undefined;
    const timer = setInterval(() => setFrame(previous => {
      const next = (previous ?? -1) + 1;
      if (next >= count - 1) setPlaying(false);
      return Math.min(next, count - 1);
    }), reducedMotion.current ? interval * 4 : interval);
    return () => clearInterval(timer);
  }, [playing, count, interval]);
  useEffect(() => { if (running) { setFrame(null); setPlaying(false); } }, [running]);
  const toggle = () => {
    if (!playing && (frame === null || frame >= count - 1)) setFrame(0);
    setPlaying(!playing);
  };
  const show = index => { setPlaying(false); setFrame(index); };
  return { frame: frame === null ? count - 1 : Math.min(frame, count - 1), playing, show, toggle };
}

export const FilmControls = ({ film, count, label, display }) => count > 1 && html`<div class="film">
  <button type="button" onClick=${film.toggle}>${film.playing ? "Pause" : "Play"}</button>
  <input type="range" min="0" max=${count - 1} value=${film.frame} aria-label=${label} aria-valuetext=${display}
    onInput=${event => film.show(Number(event.target.value))} /><span>${display}</span></div>`;

// Pictures: shown in their own pixels, dropped, and picked from the gallery.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { ask, chance, query, upload, useJob } from "./api.js";
import { Alarm, Dialog, useId } from "./parts.js";

const SMALL = 160; // pixels a side below which a picture is drawn with sharp ones

export function Picture({ src, alt, ...rest }) {
  const [sharp, setSharp] = useState(true);
  return html`<img src=${src} alt=${alt} class=${sharp ? "sharp" : ""} decoding="async"
    onLoad=${event => setSharp(event.target.naturalWidth < SMALL)} ...${rest} />`;
}

// How wide the tiles of so many pictures are.
export const tiles = count => `tiles ${count <= 1 ? "one" : count <= 4 ? "few" : count <= 16 ? "some" : "all"}`;

// Files that are dropped on an element, folders opened.
export async function dropped(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(entry => entry.isDirectory)) return [...transfer.files].map(file => ({ file, path: file.name }));
  const found = [];
  const walk = async (entry, path) => {
    if (entry.name.startsWith(".")) return;
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push({ file, path: path + entry.name });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!part.length) return;
      for (const one of part) await walk(one, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return found;
}

// A place to drop files on, which is a button as well.
export function Drop({ label, hint, onFiles, multiple = false, folder = false, accept = "image/*,.npy", busy, invalid, said }) {
  const [over, setOver] = useState(false);
  const id = useId("drop");
  const drop = async event => {
    event.preventDefault();
    setOver(false);
    const files = await dropped(event.dataTransfer);
    if (files.length) onFiles(multiple ? files : files.slice(0, 1));
  };
  const chosen = event => {
    const files = [...event.target.files].map(file => ({ file, path: file.webkitRelativePath || file.name }));
    event.target.value = "";
    if (files.length) onFiles(files);
  };
  return html`<div class=${`drop${over ? " over" : ""}${invalid ? " wrong" : ""}`} onDragOver=${event => { event.preventDefault(); setOver(true); }}
    onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <label for=${id}><strong>${busy ? "Reading …" : label}</strong>${hint && html`<span>${hint}</span>`}</label>
    <input id=${id} type="file" accept=${accept} multiple=${multiple} onChange=${chosen} aria-describedby=${said} />
    ${folder && html`<label class="folder">or choose a folder<input type="file" webkitdirectory multiple onChange=${chosen} /></label>`}
  </div>`;
}

export function Picker({ open, onClose, onPick, model }) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    if (open) ask(`/api/gallery?${query({ model, limit: 60 })}`).then(answer => setFound(answer.pictures), () => setFound([]));
  }, [open, model]);
  return html`<${Dialog} title="Choose a picture" open=${open} onClose=${onClose} wide>
    ${found?.length === 0 && html`<p>This model has drawn nothing yet. Draw a few pictures under Generate first.</p>`}
    <div class="tiles all">${found?.map(one => html`<button type="button" class="tile" key=${one.id} onClick=${() => { onPick(one); onClose(); }}>
      <${Picture} src=${one.url} alt=${`Picture ${one.number + 1} of seed ${one.seed}${one.label ? `, ${one.label}` : ""}`} /></button>`)}</div>
  </${Dialog}>`;
}

// Have the model draw what a form asks for.
export function DrawOne({ model, onPick }) {
  const { job, start, busy } = useJob();
  useEffect(() => { if (job?.status === "done") onPick(job.samples[0]); }, [job?.status]);
  return html`<button type="button" class="main" disabled=${busy} onClick=${() => start({ kind: "generate", model: model.name, count: 1, seed: chance() })}>${busy ? "Drawing …" : "Draw one"}</button>
    <${Alarm} fault=${job?.fault} />`;
}

// One picture that a form asks for, or sample of arrays: dropped, chosen, or from the gallery.
export function Well({ label, name, value, onChange, fault, small, model }) {
  const [own, setOwn] = useState(null), [busy, setBusy] = useState(false), [picking, setPicking] = useState(false);
  const said = useId("well");
  const wrong = own ?? (fault?.field === name ? fault.message : null);
  const take = async ([{ file }]) => {
    setBusy(true);
    setOwn(null);
    try {
      onChange(await upload(file));
    } catch (problem) {
      setOwn(problem.message);
    }
    setBusy(false);
  };
  return html`<div class=${small ? "well small" : "well"}><h2 class="well-label">${label}</h2>
    ${value?.url && !small && html`<div class="well-shown"><${Picture} src=${value.url} alt=${label} /></div>`}
    <${Drop} label=${`Drop ${value || small ? "another" : "a"} ${model.kind === "picture" ? "picture" : ".npy file"}`} hint="or press to choose a file" accept=${model.kind === "picture" ? "image/*,.npy" : ".npy"} onFiles=${take} busy=${busy} invalid=${wrong} said=${said} />
    <button type="button" class="quiet" onClick=${() => setPicking(true)}>From the gallery</button>
    <p class="said" id=${said} role=${wrong ? "alert" : null}>${wrong}</p>
    <${Picker} model=${model.name} open=${picking} onClose=${() => setPicking(false)} onPick=${one => { setOwn(null); onChange(one); }} />
  </div>`;
}

// Frames one after another, with a slider: how pictures formed, or how a training went.
export function useFilm(count, running, pace = 220) {
  const [place, setPlace] = useState(null), [playing, setPlaying] = useState(false);
  const still = useRef(matchMedia("(prefers-reduced-motion: reduce)").matches);
  useEffect(() => {
    if (!playing || count < 2) return undefined;
    const timer = setInterval(() => setPlace(now => {
      const next = (now ?? -1) + 1;
      if (next >= count - 1) setPlaying(false);
      return Math.min(next, count - 1);
    }), still.current ? pace * 4 : pace);
    return () => clearInterval(timer);
  }, [playing, count, pace]);
  useEffect(() => { if (running) { setPlace(null); setPlaying(false); } }, [running]);
  const toggle = () => {
    if (!playing && (place === null || place >= count - 1)) setPlace(0);
    setPlaying(!playing);
  };
  return { place: place === null ? count - 1 : Math.min(place, count - 1), playing, setPlace: at => { setPlaying(false); setPlace(at); }, toggle };
}

export const Film = ({ film, count, label, shown }) => count > 1 && html`<div class="film">
  <button type="button" onClick=${film.toggle}>${film.playing ? "Pause" : "Play"}</button>
  <input type="range" min="0" max=${count - 1} value=${film.place} aria-label=${label} aria-valuetext=${shown}
    onInput=${event => film.setPlace(Number(event.target.value))} /><span>${shown}</span></div>`;

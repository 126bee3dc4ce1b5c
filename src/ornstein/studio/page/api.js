// Requests to the studio's routes, uploads, server-sent events and jobs; formatting of numbers.
import { useEffect, useRef, useState } from "./vendor/preact.js";

export class Fault extends Error {
  constructor(message, field = null) {
    super(message);
    this.field = field;
  }
}

export async function fetchJson(path, { method = "GET", body, raw, signal } = {}) {
  const content = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const headers = raw || body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { method, headers, body: content, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The studio does not respond. Is the program still running?");
  }
  if (response.status === 204) return null;
  const result = await response.json().catch(() => null);
  if (response.ok) return result;
  throw new Fault(asSentence(result?.error ?? `The studio responded with status ${response.status}`), result?.field);
}

export const post = (path, body) => fetchJson(path, { method: "POST", body });

export const upload = (file, name = file.name) =>
  fetchJson(`/api/files?name=${encodeURIComponent((name || "picture").slice(-255))}`, { method: "POST", raw: file });

export const query = parameters =>
  new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "")).toString();

function asSentence(text) {
  const capitalized = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capitalized) ? capitalized : `${capitalized}.`;
}

// The number in a text field for a JSON body: undefined if empty, and all digits of an integer too large for JavaScript.
export function parseNumber(text) {
  const trimmed = String(text ?? "").trim();
  if (trimmed === "") return undefined;
  const value = Number(trimmed);
  if (/^\d+$/.test(trimmed) && !Number.isSafeInteger(value) && JSON.rawJSON) return JSON.rawJSON(trimmed);
  return Number.isNaN(value) ? trimmed : value;
}

export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

// Call the handler of each server-sent event, up to one of a final kind; returns a function that stops listening.
export function listen(path, handlers, finalKinds, onLost, onReconnecting = () => {}) {
  const source = new EventSource(path);
  for (const kind of [...Object.keys(handlers), ...finalKinds]) {
    source.addEventListener(kind, event => {
      if (finalKinds.includes(kind)) source.close();
      onReconnecting(false);
      handlers[kind]?.(JSON.parse(event.data));
    });
  }
  source.onerror = () => (source.readyState === EventSource.CLOSED ? onLost() : onReconnecting(true));
  return () => source.close();
}

const JOB_ENDED = ["done", "failed", "cancelled"];
export const PROCESS_ENDED = ["done", "failed", "stopped"];
export const isProcessActive = ({ status }) => !PROCESS_ENDED.includes(status);
const MAX_FRAMES = 160; // previews of a job that are kept for replay

const isActive = job => job?.status === "queued" || job?.status === "running";

// Submit a job and follow its progress, previews and pictures.
export function useJob() {
  const [job, setJob] = useState(null);
  const current = useRef({ stop() {}, id: null });
  useEffect(() => () => current.current.stop(), []);

  const update = values => setJob(previous => ({ ...previous, ...values }));
  const onEnd = async id => {
    try {
      const ended = await fetchJson(`/api/jobs/${id}`);
      if (current.current.id !== id) return;
      update({ ...ended, fault: ended.error ? new Fault(asSentence(ended.error.error), ended.error.field) : null });
    } catch (fault) {
      if (current.current.id === id) update({ status: "failed", fault });
    }
  };
  const follow = id => {
    const handlers = {
      progress: event => update({ status: event.status, progress: event.progress, callsDone: event.calls, callsTotal: event.of, secondsLeft: event.seconds_left }),
      preview: event => setJob(previous => {
        const frames = [...previous.frames, event];
        return { ...previous, frames: frames.length > MAX_FRAMES ? frames.filter((_, index) => index % 2) : frames };
      }),
    };
    for (const kind of JOB_ENDED) handlers[kind] = () => onEnd(id);
    const onReconnecting = reconnecting => setJob(previous => (Boolean(previous.reconnecting) === reconnecting ? previous : { ...previous, reconnecting }));
    current.current.stop = listen(`/api/jobs/${id}/events`, handlers, JOB_ENDED, () => onEnd(id), onReconnecting);
  };
  const start = async body => {
    current.current.stop();
    const started = { stop() {}, id: null };
    current.current = started;
    const previous = isActive(job) || !job ? null : job;
    setJob({ status: "queued", frames: [], samples: [], request: body, progress: 0, fault: null });
    try {
      const { id } = await post("/api/jobs", body);
      if (current.current !== started) return;
      started.id = id;
      update({ id });
      follow(id);
    } catch (fault) {
      if (current.current === started) setJob({ ...(previous ?? { status: "refused" }), fault }); // earlier pictures stay
    }
  };
  const stop = () => current.current.id && fetchJson(`/api/jobs/${current.current.id}`, { method: "DELETE" }).catch(fault => update({ fault }));
  return { job, start, stop, busy: isActive(job) };
}

// The response for a path that may change faster than the studio responds; at most one request runs at a time.
export function useLatest(path) {
  const [result, setResult] = useState({ value: null, fault: null });
  const state = useRef({ wanted: null, busy: false });
  useEffect(() => {
    const { current } = state;
    current.wanted = path;
    if (current.busy || !path) return;
    (async () => {
      current.busy = true;
      for (let requested = null; current.wanted && requested !== current.wanted;) {
        requested = current.wanted;
        try {
          const value = await fetchJson(requested);
          setResult({ value, fault: null });
        } catch (fault) {
          setResult(previous => ({ ...previous, fault }));
        }
      }
      current.busy = false;
    })();
  }, [path]);
  return path ? result : { value: null, fault: null };
}

export function formatDuration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 90) return seconds < 1.5 ? "1 second" : `${Math.round(seconds)} seconds`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} minutes` : `${(minutes / 60).toFixed(1)} hours`;
}

export const formatNumber = (value, digits = 3) =>
  value === null || value === undefined ? "∞" : value.toLocaleString("en", { maximumSignificantDigits: digits }).replace("-", "−");

export const plural = (count, noun, nouns = `${noun}s`) => `${count.toLocaleString("en")} ${count === 1 ? noun : nouns}`;

// Scroll to the results, which are below the form on a narrow screen.
export const revealResults = element => innerWidth < 860
  && element.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });

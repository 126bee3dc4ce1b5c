// The studio's own routes: requests, uploads, and jobs that are followed.
import { useEffect, useRef, useState } from "./vendor/preact.js";

export class Fault extends Error {
  constructor(sentence, field = null) {
    super(sentence);
    this.field = field;
  }
}

export async function ask(path, { method = "GET", body, raw, signal } = {}) {
  const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const headers = raw || body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { method, headers, body: sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The studio does not answer. Is the program still running?");
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new Fault(sentence(answer?.error ?? `The studio answered ${response.status}`), answer?.field);
}

export const post = (path, body) => ask(path, { method: "POST", body });

export const upload = (file, name = file.name) =>
  ask(`/api/files?name=${encodeURIComponent((name || "picture").slice(-255))}`, { method: "POST", raw: file });

export const query = given =>
  new URLSearchParams(Object.entries(given).filter(([, value]) => value !== null && value !== undefined && value !== "")).toString();

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

// What a field of numbers holds, for a JSON body: nothing, a number, or all digits of one that JavaScript cannot hold.
export function number(text) {
  const trimmed = String(text ?? "").trim();
  if (trimmed === "") return undefined;
  const value = Number(trimmed);
  if (/^\d+$/.test(trimmed) && !Number.isSafeInteger(value) && JSON.rawJSON) return JSON.rawJSON(trimmed);
  return Number.isNaN(value) ? trimmed : value;
}

export const chance = () => crypto.getRandomValues(new Uint32Array(1))[0];

// Follow server-sent events up to one of the last kinds; returns what stops it.
export function listen(path, heard, last, lost, waits = () => {}) {
  const source = new EventSource(path);
  for (const kind of [...Object.keys(heard), ...last]) {
    source.addEventListener(kind, event => {
      if (last.includes(kind)) source.close();
      waits(false);
      heard[kind]?.(JSON.parse(event.data));
    });
  }
  source.onerror = () => (source.readyState === EventSource.CLOSED ? lost() : waits(true));
  return () => source.close();
}

export const ENDED = ["done", "failed", "cancelled"];
const FRAMES = 160; // kept of a job's previews, so that they can be watched again

const busy = job => job?.status === "queued" || job?.status === "running";

// A job from its request to its pictures, and how it forms.
export function useJob() {
  const [job, setJob] = useState(null);
  const current = useRef({ stop() {}, id: null });
  useEffect(() => () => current.current.stop(), []);

  const change = values => setJob(before => ({ ...before, ...values }));
  const ended = async id => {
    try {
      const whole = await ask(`/api/jobs/${id}`);
      if (current.current.id !== id) return;
      change({ ...whole, fault: whole.error ? new Fault(sentence(whole.error.error), whole.error.field) : null });
    } catch (fault) {
      if (current.current.id === id) change({ status: "failed", fault });
    }
  };
  const follow = id => {
    const heard = {
      progress: news => change({ status: news.status, progress: news.progress, done: news.calls, of: news.of, left: news.seconds_left }),
      preview: news => setJob(before => {
        const frames = [...before.frames, news];
        return { ...before, frames: frames.length > FRAMES ? frames.filter((_, place) => place % 2) : frames };
      }),
    };
    for (const kind of ENDED) heard[kind] = () => ended(id);
    current.current.stop = listen(`/api/jobs/${id}/events`, heard, ENDED, () => ended(id), waits => setJob(before => (Boolean(before.waits) === waits ? before : { ...before, waits })));
  };
  const start = async body => {
    current.current.stop();
    const mine = { stop() {}, id: null };
    current.current = mine;
    const before = busy(job) || !job ? null : job;
    setJob({ status: "queued", frames: [], samples: [], request: body, progress: 0, fault: null });
    try {
      const { id } = await post("/api/jobs", body);
      if (current.current !== mine) return;
      mine.id = id;
      change({ id });
      follow(id);
    } catch (fault) {
      if (current.current === mine) setJob({ ...(before ?? { status: "refused" }), fault }); // what was drawn stays
    }
  };
  const stop = () => current.current.id && ask(`/api/jobs/${current.current.id}`, { method: "DELETE" }).catch(fault => change({ fault }));
  return { job, start, stop, busy: busy(job) };
}

// The latest answer of a request that changes faster than it is answered; at most one is under way.
export function useLatest(path) {
  const [answer, setAnswer] = useState({ value: null, fault: null });
  const state = useRef({ wanted: null, busy: false });
  useEffect(() => {
    const now = state.current;
    now.wanted = path;
    if (now.busy || !path) return;
    (async () => {
      now.busy = true;
      for (let asked = null; now.wanted && asked !== now.wanted;) {
        asked = now.wanted;
        try {
          const value = await ask(asked);
          setAnswer({ value, fault: null });
        } catch (fault) {
          setAnswer(before => ({ ...before, fault }));
        }
      }
      now.busy = false;
    })();
  }, [path]);
  return path ? answer : { value: null, fault: null };
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 90) return seconds < 1.5 ? "1 second" : `${Math.round(seconds)} seconds`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} minutes` : `${(minutes / 60).toFixed(1)} hours`;
}

export const short = (value, digits = 3) =>
  value === null || value === undefined ? "∞" : value.toLocaleString("en", { maximumSignificantDigits: digits }).replace("-", "−");

export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;

// On a narrow screen results are below the form: they are brought into view.
export const reveal = element => innerWidth < 860
  && element.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });

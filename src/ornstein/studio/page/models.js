// All models that are served: what they are, and what `ornstein evaluate` says of them.
import { html, useEffect, useState } from "./vendor/preact.js";
import { ask, listen, many, post, short } from "./api.js";
import { Alarm, Dialog, Progress } from "./parts.js";

// The figure without the bias that the number of samples gives it, where that can be told, and its interval.
const figure = (one, what = "") => {
  const [value, low, high] = [one[what ? "floor_limit" : "limit"] ?? one[what || "value"], one[`${what && "floor_"}low`], one[`${what && "floor_"}high`]];
  return value == null ? "" : low == null ? short(value) : `${short(value)} (${short(low)} to ${short(high)})`;
};

function Report({ report }) {
  const spaces = [...new Set((report.measures ?? []).map(one => one.features))];
  return html`<div class="report">${(report.verdict ?? []).map((line, place) => html`<p key=${place} class=${place ? "note" : "verdict"}>${line}</p>`)}
    ${spaces.length > 0 && html`<div class="scroll" role="region" tabindex="0" aria-label=${`Figures of ${report.name}`}><table>
      <thead><tr><th scope="col">Figure</th><th scope="col">Its samples</th><th scope="col">Real ones among themselves</th></tr></thead>
      ${spaces.map(space => html`<tbody key=${space}>${space && html`<tr><th scope="rowgroup" colspan="3">by ${space}</th></tr>`}${report.measures.filter(one => one.features === space).map(one => html`
        <tr key=${one.key}><td>${one.name}</td><td>${figure(one)}</td><td>${figure(one, "floor")}</td></tr>`)}</tbody>`)}</table></div>`}
    ${(report.notes ?? []).map(note => html`<p class="note" key=${note}>${note}</p>`)}</div>`;
}

const addressed = name => name.split("/").map(encodeURIComponent).join("/");
const LAST = ["done", "failed", "stopped"];

// The latest evaluation of each model, followed while it waits or runs.
function useEvaluations(models, reload) {
  const [all, setAll] = useState([]);
  const change = now => setAll(before => [now, ...before.filter(one => one.id !== now.id)]);
  const names = models.map(one => one.name).join("/");
  useEffect(() => { ask("/api/evaluations").then(answer => setAll(answer.evaluations), () => {}); }, [names]);
  const going = all.filter(one => !LAST.includes(one.status)).map(one => one.id).join();
  useEffect(() => {
    const stops = (going ? going.split(",") : []).map(id => {
      const again = () => ask(`/api/evaluations/${id}`).then(now => { change(now); if (now.status === "done") reload(); }, () => {});
      const heard = { status: change, progress: news => setAll(before => before.map(one => (one.id === id ? { ...one, ...news } : one))) };
      for (const kind of LAST) heard[kind] = again;
      return listen(`/api/evaluations/${id}/events`, heard, LAST, again);
    });
    return () => stops.forEach(stop => stop());
  }, [going]);
  return { of: name => all.find(one => one.model === name), change };
}

function Judged({ one, evaluation, change }) {
  const [report, setReport] = useState(null), [fault, setFault] = useState(null), [open, setOpen] = useState(false);
  const going = evaluation && !LAST.includes(evaluation.status);
  const act = request => { setFault(null); request.then(change, setFault); };
  const read = () => {
    setOpen(true);
    setFault(null);
    ask(`/api/evaluation/${addressed(one.name)}`).then(answer => setReport(answer.reports ? answer.reports[0] : answer), setFault);
  };
  const why = evaluation?.status === "failed" && evaluation.error;
  return html`${going && html`<${Progress} value=${evaluation.progress} left=${evaluation.seconds_left}
      label=${evaluation.status === "waiting" ? `Waiting to be judged: ${evaluation.position ?? 0} before it` : `Being judged${evaluation.part ? `: ${evaluation.part}` : ""}`} />`}
    ${!one.evaluated && !going && html`<p class="note">Not judged yet. It takes some minutes, and can be stopped.</p>`}
    <div class="buttons">${one.evaluated && html`<button type="button" class="quiet" onClick=${read} aria-label=${`How good ${one.name} is`}>How good it is</button>`}
      ${going ? html`<button type="button" class="quiet" onClick=${() => act(ask(`/api/evaluations/${evaluation.id}`, { method: "DELETE" }))} aria-label=${`Stop judging ${one.name}`}>Stop</button>`
        : html`<button type="button" class="quiet" onClick=${() => act(post("/api/evaluations", { model: one.name }))} aria-label=${`Evaluate ${one.name}`}>${one.evaluated ? "Evaluate again" : evaluation?.status === "stopped" ? "Go on evaluating" : "Evaluate"}</button>`}</div>
    ${why && html`<p class="alarm" role="alert">${why}</p>`}${!open && html`<${Alarm} fault=${fault} />`}
    ${one.evaluated && html`<${Dialog} title=${`How good ${one.name} is`} open=${open} onClose=${() => setOpen(false)} wide><${Alarm} fault=${fault} />
      ${report && html`<${Report} report=${report} />`}<p><a href=${`/api/report/${addressed(one.name)}`} target="_blank" rel="noopener">The whole report, with pictures and plots</a></p></${Dialog}>`}`;
}

function Model({ one, go, ...rest }) {
  if (one.error) return html`<article class="card"><h3>${one.name}</h3><p class="note">${one.error}</p></article>`;
  const { card } = one, facts = [["Draws", `${one.kind === "picture" ? `${one.width} × ${one.height} pixels` : `arrays of ${one.shape.join(" × ")}`}${one.classes.length ? `, ${many(one.classes.length, "class", "classes")}` : ""}`],
    ["Network", `${card.network}, ${card.weights.toLocaleString("en")} weights`], ["Schedule", `${card.schedule}, predicts ${card.predicts}`],
    ["Training", card.metrics?.images ? `${many(card.metrics.images, one.kind === "picture" ? "picture" : "sample")} seen` : null], ["Loss", card.metrics?.held_out != null ? `${short(card.metrics.held_out)} on unseen ones` : null],
    ["Tuned for", one.tuned.length ? `${one.tuned.map(choice => choice.nfe).join(", ")} calls` : null]];
  return html`<article class="card"><div class="row"><h3>${one.name}</h3><button type="button" onClick=${() => go("generate", { model: one.name })} aria-label=${`Draw with ${one.name}`}>Draw with it</button></div>
    <dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>
    <${Judged} one=${one} ...${rest} /></article>`;
}

export function Models({ models, go, reload }) {
  const { of, change } = useEvaluations(models, reload);
  return models.length > 0 && html`<h2 class="below">Models</h2>
    <div class="shelf">${models.map(one => html`<${Model} key=${one.name} one=${one} go=${go} evaluation=${of(one.name)} change=${change} />`)}</div>`;
}

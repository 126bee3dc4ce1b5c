// Cards of all models, with their evaluations and reports.
import { html, useEffect, useState } from "./vendor/preact.js";
import { PROCESS_ENDED, fetchJson, formatNumber, isProcessActive, listen, plural, post } from "./api.js";
import { Dialog, ErrorMessage, Progress } from "./components.js";

const formatInterval = (value, low, high) =>
  value == null ? "" : low == null ? formatNumber(value) : `${formatNumber(value)} (${formatNumber(low)} to ${formatNumber(high)})`;

// A figure and its floor, each with its interval, and without the bias of a finite number of samples if that is known.
const figure = measure => formatInterval(measure.limit ?? measure.value, measure.low, measure.high);
const floor = measure => formatInterval(measure.floor_limit ?? measure.floor, measure.floor_low, measure.floor_high);

function Report({ report }) {
  const spaces = [...new Set((report.measures ?? []).map(measure => measure.features))];
  return html`<div class="report">${(report.verdict ?? []).map((line, index) => html`<p key=${index} class=${index ? "note" : "verdict"}>${line}</p>`)}
    ${spaces.length > 0 && html`<div class="scroll" role="region" tabindex="0" aria-label=${`Figures of ${report.name}`}><table>
      <thead><tr><th scope="col">Figure</th><th scope="col">Model's samples</th><th scope="col">Real data (floor)</th></tr></thead>
      ${spaces.map(space => html`<tbody key=${space}>${space && html`<tr><th scope="rowgroup" colspan="3">by ${space}</th></tr>`}${report.measures.filter(measure => measure.features === space).map(measure => html`
        <tr key=${measure.key}><td>${measure.name}</td><td>${figure(measure)}</td><td>${floor(measure)}</td></tr>`)}</tbody>`)}</table></div>`}
    ${(report.notes ?? []).map(note => html`<p class="note" key=${note}>${note}</p>`)}</div>`;
}

const encodePath = name => name.split("/").map(encodeURIComponent).join("/");

// All evaluations, newest first; those that wait or run are followed.
function useEvaluations(models, reload) {
  const [evaluations, setEvaluations] = useState([]);
  const update = changed => setEvaluations(previous => [changed, ...previous.filter(({ id }) => id !== changed.id)]);
  const names = models.map(model => model.name).join("/");
  useEffect(() => { fetchJson("/api/evaluations").then(list => setEvaluations(list.evaluations), () => {}); }, [names]);
  const active = evaluations.filter(isProcessActive).map(({ id }) => id).join();
  useEffect(() => {
    const stops = (active ? active.split(",") : []).map(id => {
      const refresh = () => fetchJson(`/api/evaluations/${id}`).then(evaluation => { update(evaluation); if (evaluation.status === "done") reload(); }, () => {});
      const handlers = { status: update, progress: values => setEvaluations(previous => previous.map(evaluation => (evaluation.id === id ? { ...evaluation, ...values } : evaluation))) };
      for (const kind of PROCESS_ENDED) handlers[kind] = refresh;
      return listen(`/api/evaluations/${id}/events`, handlers, PROCESS_ENDED, refresh);
    });
    return () => stops.forEach(stop => stop());
  }, [active]);
  return [evaluations, update];
}

function Evaluation({ model, evaluation, update }) {
  const [report, setReport] = useState(null), [fault, setFault] = useState(null), [open, setOpen] = useState(false);
  const isActive = evaluation && isProcessActive(evaluation);
  const send = request => { setFault(null); request.then(update, setFault); };
  const showReport = () => {
    setOpen(true);
    setFault(null);
    fetchJson(`/api/evaluation/${encodePath(model.name)}`).then(result => setReport(result.reports ? result.reports[0] : result), setFault);
  };
  const error = evaluation?.status === "failed" && evaluation.error;
  return html`${isActive && html`<${Progress} value=${evaluation.progress} secondsLeft=${evaluation.seconds_left}
      label=${evaluation.status === "waiting" ? `Waiting, ${evaluation.position ?? 0} ahead` : `Evaluating${evaluation.part ? `: ${evaluation.part}` : ""}`} />`}
    ${!model.evaluated && !isActive && html`<p class="note">Not evaluated yet. This takes a few minutes and can be stopped.</p>`}
    <div class="buttons">${model.evaluated && html`<button type="button" class="quiet" onClick=${showReport} aria-label=${`Report on ${model.name}`}>Report</button>`}
      ${isActive ? html`<button type="button" class="quiet" onClick=${() => send(fetchJson(`/api/evaluations/${evaluation.id}`, { method: "DELETE" }))} aria-label=${`Stop evaluating ${model.name}`}>Stop</button>`
        : html`<button type="button" class="quiet" onClick=${() => send(post("/api/evaluations", { model: model.name }))} aria-label=${`Evaluate ${model.name}`}>${model.evaluated ? "Evaluate again" : evaluation?.status === "stopped" ? "Resume evaluation" : "Evaluate"}</button>`}</div>
    ${error && html`<p class="alarm" role="alert">${error}</p>`}${!open && html`<${ErrorMessage} fault=${fault} />`}
    ${model.evaluated && html`<${Dialog} title=${`Report on ${model.name}`} open=${open} onClose=${() => setOpen(false)} wide><${ErrorMessage} fault=${fault} />
      ${report && html`<${Report} report=${report} />`}<p><a href=${`/api/report/${encodePath(model.name)}`} target="_blank" rel="noopener">Full report with pictures and plots</a></p></${Dialog}>`}`;
}

function Model({ model, go, ...rest }) {
  if (model.error) return html`<article class="card"><h3>${model.name}</h3><p class="note">${model.error}</p></article>`;
  const { card } = model, isPicture = model.kind === "picture", facts = [["Draws", `${isPicture ? `${model.width} × ${model.height} pixels` : `arrays of ${model.shape.join(" × ")}`}${model.classes.length ? `, ${plural(model.classes.length, "class", "classes")}` : ""}`],
    ["Network", `${card.network}, ${card.weights.toLocaleString("en")} weights`], ["Schedule", `${card.schedule}, predicts ${card.predicts}`],
    ["Training", card.metrics?.images ? `${plural(card.metrics.images, isPicture ? "picture" : "sample")} seen` : null], ["Loss", card.metrics?.held_out != null ? `${formatNumber(card.metrics.held_out)} on held-out data` : null],
    ["Tuned for", model.tuned.length ? `${model.tuned.map(choice => choice.nfe).join(", ")} calls` : null]];
  return html`<article class="card"><div class="row"><h3>${model.name}</h3><button type="button" onClick=${() => go("generate", { model: model.name })} aria-label=${`Draw with ${model.name}`}>Draw with it</button></div>
    <dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>
    <${Evaluation} model=${model} ...${rest} /></article>`;
}

export function Models({ models, go, reload }) {
  const [evaluations, update] = useEvaluations(models, reload);
  return models.length > 0 && html`<h2 class="below">Models</h2>
    <div class="shelf">${models.map(model => html`<${Model} key=${model.name} model=${model} go=${go} evaluation=${evaluations.find(evaluation => evaluation.model === model.name)} update=${update} />`)}</div>`;
}

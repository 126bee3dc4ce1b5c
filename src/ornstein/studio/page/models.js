// All models that are served: what they are, and what `ornstein evaluate` says of them.
import { html, useState } from "./vendor/preact.js";
import { ask, many, short } from "./api.js";
import { Alarm } from "./parts.js";

const interval = one => (one.low === null || one.low === undefined ? short(one.value) : `${short(one.value)} (${short(one.low)} to ${short(one.high)})`);

function Report({ report }) {
  return html`<div class="report">${(report.verdict ?? []).map((line, place) => html`<p key=${place} class=${place ? "note" : "verdict"}>${line}</p>`)}
    ${report.measures?.length > 0 && html`<div class="scroll" role="region" tabindex="0" aria-label=${`Figures of ${report.name}`}><table>
      <thead><tr><th scope="col">Figure</th><th scope="col">These pictures</th><th scope="col">Real ones</th></tr></thead>
      <tbody>${report.measures.map((one, place) => html`<tr key=${place}><td>${one.name}<br /><span class="note">${one.features}</span></td><td>${interval(one)}</td><td>${one.floor === null ? "" : short(one.floor)}</td></tr>`)}</tbody></table></div>`}
    ${(report.notes ?? []).map(note => html`<p class="note" key=${note}>${note}</p>`)}</div>`;
}

function Model({ one, go }) {
  const [report, setReport] = useState(null), [fault, setFault] = useState(null);
  const opened = event => {
    if (!event.target.open || report) return;
    ask(`/api/evaluation/${one.name.split("/").map(encodeURIComponent).join("/")}`).then(answer => setReport(answer.reports ? answer.reports[0] : answer), setFault);
  };
  if (one.error) return html`<article class="card"><h3>${one.name}</h3><p class="note">${one.error}</p></article>`;
  const { card } = one, facts = [["Draws", `${one.kind === "picture" ? `${one.width} × ${one.height} pixels` : `arrays of ${one.shape.join(" × ")}`}${one.classes.length ? `, ${many(one.classes.length, "class", "classes")}` : ""}`],
    ["Network", `${card.network}, ${card.weights.toLocaleString("en")} weights`], ["Schedule", `${card.schedule}, predicts ${card.predicts}`],
    ["Training", card.metrics?.images ? `${card.metrics.images.toLocaleString("en")} pictures seen` : null], ["Loss", card.metrics?.held_out != null ? `${short(card.metrics.held_out)} on unseen ones` : null],
    ["Tuned for", one.tuned.length ? `${one.tuned.map(choice => choice.nfe).join(", ")} calls` : null]];
  return html`<article class="card"><div class="row"><h3>${one.name}</h3><button type="button" onClick=${() => go("generate", { model: one.name })} aria-label=${`Draw with ${one.name}`}>Draw with it</button></div>
    <dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>
    ${one.evaluated ? html`<details onToggle=${opened}><summary>How good it is</summary><${Alarm} fault=${fault} />${report && html`<${Report} report=${report} />`}</details>`
      : html`<p class="note">Not judged yet: <code>ornstein evaluate</code> writes its report.</p>`}</article>`;
}

export const Models = ({ models, go }) => models.length > 0 && html`<h2 class="below">Models</h2>
  <div class="shelf">${models.map(one => html`<${Model} key=${one.name} one=${one} go=${go} />`)}</div>`;

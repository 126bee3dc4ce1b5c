// All models that are served: what they are, and what `ornstein evaluate` says of them.
import { html, useState } from "./vendor/preact.js";
import { ask, many, short } from "./api.js";
import { Alarm, Dialog } from "./parts.js";

// The figure without the bias that the number of samples gives it, where that can be told, and its interval.
const figure = (one, what = "") => {
  const [value, low, high] = [one[what ? "floor_limit" : "limit"] ?? one[what || "value"], one[`${what && "floor_"}low`], one[`${what && "floor_"}high`]];
  return value == null ? "" : low == null ? short(value) : `${short(value)} (${short(low)} to ${short(high)})`;
};

function Report({ report }) {
  const spaces = [...new Set((report.measures ?? []).map(one => one.features))];
  return html`<div class="report">${(report.verdict ?? []).map((line, place) => html`<p key=${place} class=${place ? "note" : "verdict"}>${line}</p>`)}
    ${spaces.length > 0 && html`<div class="scroll" role="region" tabindex="0" aria-label=${`Figures of ${report.name}`}><table>
      <thead><tr><th scope="col">Figure</th><th scope="col">These pictures</th><th scope="col">Real ones among themselves</th></tr></thead>
      ${spaces.map(space => html`<tbody key=${space}>${space && html`<tr><th scope="rowgroup" colspan="3">by ${space}</th></tr>`}${report.measures.filter(one => one.features === space).map(one => html`
        <tr key=${one.key}><td>${one.name}</td><td>${figure(one)}</td><td>${figure(one, "floor")}</td></tr>`)}</tbody>`)}</table></div>`}
    ${(report.notes ?? []).map(note => html`<p class="note" key=${note}>${note}</p>`)}</div>`;
}

function Model({ one, go }) {
  const [report, setReport] = useState(null), [fault, setFault] = useState(null);
  const [open, setOpen] = useState(false);
  const read = () => {
    setOpen(true);
    ask(`/api/evaluation/${one.name.split("/").map(encodeURIComponent).join("/")}`).then(answer => setReport(answer.reports ? answer.reports[0] : answer), setFault);
  };
  if (one.error) return html`<article class="card"><h3>${one.name}</h3><p class="note">${one.error}</p></article>`;
  const { card } = one, facts = [["Draws", `${one.kind === "picture" ? `${one.width} × ${one.height} pixels` : `arrays of ${one.shape.join(" × ")}`}${one.classes.length ? `, ${many(one.classes.length, "class", "classes")}` : ""}`],
    ["Network", `${card.network}, ${card.weights.toLocaleString("en")} weights`], ["Schedule", `${card.schedule}, predicts ${card.predicts}`],
    ["Training", card.metrics?.images ? `${card.metrics.images.toLocaleString("en")} pictures seen` : null], ["Loss", card.metrics?.held_out != null ? `${short(card.metrics.held_out)} on unseen ones` : null],
    ["Tuned for", one.tuned.length ? `${one.tuned.map(choice => choice.nfe).join(", ")} calls` : null]];
  return html`<article class="card"><div class="row"><h3>${one.name}</h3><button type="button" onClick=${() => go("generate", { model: one.name })} aria-label=${`Draw with ${one.name}`}>Draw with it</button></div>
    <dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>
    ${one.evaluated ? html`<div><button type="button" class="quiet" onClick=${read} aria-label=${`How good ${one.name} is`}>How good it is</button></div>
      <${Dialog} title=${`How good ${one.name} is`} open=${open} onClose=${() => setOpen(false)} wide><${Alarm} fault=${fault} />${report && html`<${Report} report=${report} />`}</${Dialog}>`
      : html`<p class="note">Not judged yet: <code>ornstein evaluate</code> writes its report.</p>`}</article>`;
}

export const Models = ({ models, go }) => models.length > 0 && html`<h2 class="below">Models</h2>
  <div class="shelf">${models.map(one => html`<${Model} key=${one.name} one=${one} go=${go} />`)}</div>`;

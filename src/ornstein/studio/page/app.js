// The page: tabs, the model that all of them use, and what one tab hands to another.
import { html, render, useEffect, useRef, useState } from "./vendor/preact.js";
import { ask } from "./api.js";
import { Alarm, useId } from "./parts.js";
import { Edit } from "./edit.js";
import { Forward } from "./forward.js";
import { Gallery } from "./gallery.js";
import { Generate } from "./generate.js";
import { Train } from "./train.js";

const TABS = { train: ["Train", Train], generate: ["Generate", Generate], edit: ["Edit", Edit], forward: ["Forward", Forward], gallery: ["Gallery", Gallery] };
const wanted = () => (location.hash.slice(1) in TABS ? location.hash.slice(1) : null);

function Tabs({ tab, go }) {
  const list = useRef(null), names = Object.keys(TABS);
  const moved = event => {
    const at = names.indexOf(tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = names[(to + names.length) % names.length];
    go(next);
    list.current.querySelector(`#tab-${next}`).focus();
  };
  return html`<div role="tablist" aria-label="What to do" ref=${list} onKeyDown=${moved}>${names.map(name => html`
    <button type="button" role="tab" key=${name} id=${`tab-${name}`} aria-controls=${`panel-${name}`} aria-selected=${tab === name ? "true" : "false"}
      tabindex=${tab === name ? 0 : -1} onClick=${() => go(name)}>${TABS[name][0]}</button>`)}</div>`;
}

function ModelChoice({ models, model, choose }) {
  const id = useId("model");
  if (!models.length) return null;
  return html`<div class="model"><label for=${id}>Model</label>
    <select id=${id} value=${model?.name} onChange=${event => choose(event.target.value)}>${models.map(one => html`
      <option key=${one.name} value=${one.name} disabled=${Boolean(one.error)}>${one.name}${one.error ? " (cannot be loaded)" : ""}</option>`)}</select></div>`;
}

function App() {
  const [served, setServed] = useState(null), [fault, setFault] = useState(null);
  const [name, setName] = useState(null), [tab, setTab] = useState(wanted());
  const [handed, setHanded] = useState({ tab: null });
  const opened = useRef(new Set());

  const reload = async () => {
    try {
      setServed(await ask("/api/models"));
      setFault(null);
    } catch (problem) {
      setFault(problem);
    }
  };
  useEffect(() => {
    reload();
    const turned = () => wanted() && setTab(wanted());
    addEventListener("hashchange", turned);
    return () => removeEventListener("hashchange", turned);
  }, []);

  const go = (to, what) => {
    if (wanted() !== to) location.hash = to;
    setTab(to);
    if (what) {
      if (what.model) setName(what.model);
      setHanded({ tab: to, ...what });
      scrollTo(0, 0);
    }
  };

  const models = served?.models ?? [];
  const model = models.find(one => one.name === name && !one.error) ?? models.find(one => !one.error) ?? null;
  const shown = tab ?? (served && (model ? "generate" : "train"));
  if (shown) opened.current.add(shown);
  useEffect(() => { if (shown) document.title = `${TABS[shown][0]} · Ornstein studio`; }, [shown]);

  return html`<header class="top"><a class="brand" href="#generate"><img src="icon.svg" alt="" width="28" height="28" />Ornstein</a>
      <${Tabs} tab=${shown} go=${go} /><${ModelChoice} models=${models} model=${model} choose=${setName} /></header>
    <main><${Alarm} fault=${fault} />${served && Object.entries(TABS).map(([key, [, Panel]]) => html`
      <section key=${key} role="tabpanel" id=${`panel-${key}`} aria-labelledby=${`tab-${key}`} hidden=${shown !== key}>
        ${opened.current.has(key) && html`<${Panel} model=${model} models=${models} samplers=${served.samplers} shown=${shown === key}
          handed=${handed.tab === key ? handed : null} go=${go} reload=${reload} />`}</section>`)}</main>`;
}

render(html`<${App} />`, document.getElementById("studio"));

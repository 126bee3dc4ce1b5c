// The page: its tabs, the model that they share, and the values that one tab passes to another.
import { html, render, useEffect, useRef, useState } from "./vendor/preact.js";
import { fetchJson } from "./api.js";
import { ErrorMessage, useId } from "./components.js";
import { Edit } from "./edit.js";
import { Forward } from "./forward.js";
import { Gallery } from "./gallery.js";
import { Generate } from "./generate.js";
import { Train } from "./train.js";

const TABS = { train: ["Train", Train], generate: ["Generate", Generate], edit: ["Edit", Edit], forward: ["Forward", Forward], gallery: ["Gallery", Gallery] };
const tabOfAddress = () => (location.hash.slice(1) in TABS ? location.hash.slice(1) : null);

function Tabs({ tab, go }) {
  const list = useRef(null), names = Object.keys(TABS);
  const onKeyDown = event => {
    const index = names.indexOf(tab);
    const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: names.length - 1 }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    const next = names[(target + names.length) % names.length];
    go(next);
    list.current.querySelector(`#tab-${next}`).focus();
  };
  return html`<div role="tablist" aria-label="What to do" ref=${list} onKeyDown=${onKeyDown}>${names.map(name => html`
    <button type="button" role="tab" key=${name} id=${`tab-${name}`} aria-controls=${`panel-${name}`} aria-selected=${tab === name ? "true" : "false"}
      tabindex=${tab === name ? 0 : -1} onClick=${() => go(name)}>${TABS[name][0]}</button>`)}</div>`;
}

function ModelChoice({ models, model, choose }) {
  const id = useId("model");
  if (!models.length) return null;
  return html`<div class="model"><label for=${id}>Model</label>
    <select id=${id} value=${model?.name} onChange=${event => choose(event.target.value)}>${models.map(({ name, error }) => html`
      <option key=${name} value=${name} disabled=${Boolean(error)}>${name}${error ? " (cannot be loaded)" : ""}</option>`)}</select></div>`;
}

function App() {
  const [served, setServed] = useState(null), [fault, setFault] = useState(null);
  const [name, setName] = useState(null), [tab, setTab] = useState(tabOfAddress());
  const [passed, setPassed] = useState({ tab: null });
  const opened = useRef(new Set());

  const reload = async () => {
    try {
      setServed(await fetchJson("/api/models"));
      setFault(null);
    } catch (problem) {
      setFault(problem);
    }
  };
  useEffect(() => {
    reload();
    const onHashChange = () => tabOfAddress() && setTab(tabOfAddress());
    addEventListener("hashchange", onHashChange);
    return () => removeEventListener("hashchange", onHashChange);
  }, []);

  const go = (to, values) => {
    if (tabOfAddress() !== to) location.hash = to;
    setTab(to);
    if (values) {
      if (values.model) setName(values.model);
      setPassed({ tab: to, ...values });
      scrollTo(0, 0);
    }
  };

  const models = served?.models ?? [];
  const usable = models.filter(candidate => !candidate.error);
  const model = usable.find(candidate => candidate.name === name) ?? usable[0] ?? null;
  const shown = tab ?? (served && (model ? "generate" : "train"));
  useEffect(() => { if (shown && !tab) setTab(shown); }, [shown, tab]); // the first model must not take a training out of sight
  if (shown) opened.current.add(shown);
  useEffect(() => { if (shown) document.title = `${TABS[shown][0]} · Ornstein studio`; }, [shown]);

  return html`<header class="top"><a class="brand" href="#generate"><img src="icon.svg" alt="" width="28" height="28" />Ornstein</a>
      <${Tabs} tab=${shown} go=${go} /><${ModelChoice} models=${models} model=${model} choose=${setName} /></header>
    <main><${ErrorMessage} fault=${fault} />${served && Object.entries(TABS).map(([key, [, Panel]]) => html`
      <section key=${key} role="tabpanel" id=${`panel-${key}`} aria-labelledby=${`tab-${key}`} hidden=${shown !== key}>
        ${opened.current.has(key) && html`<${Panel} model=${model} models=${models} samplers=${served.samplers} shown=${shown === key}
          passed=${passed.tab === key ? passed : null} go=${go} reload=${reload} />`}</section>`)}</main>`;
}

render(html`<${App} />`, document.getElementById("studio"));

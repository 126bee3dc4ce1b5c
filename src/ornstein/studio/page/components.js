// Components and hooks that the tabs share.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { formatDuration } from "./api.js";

let lastId = 0;
export const useId = name => {
  const id = useRef(null);
  id.current ??= `${name}-${++lastId}`;
  return id.current;
};

// A labelled control, with its hint or its error below.
export function Field({ label, name, hint, fault, children, ...control }) {
  const id = useId(name), noteId = `${id}-note`;
  const error = fault?.field === name ? fault.message : null;
  const attributes = { id, name, "aria-describedby": error || hint ? noteId : null, "aria-invalid": error ? "true" : null, ...control };
  return html`<div class=${`field${error ? " wrong" : ""}`}>
    <label for=${id}>${label}</label>
    ${children ? children(attributes) : html`<input autocomplete="off" ...${attributes} />`}
    ${(error || hint) && html`<p class="hint" id=${noteId}>${error ?? hint}</p>`}
  </div>`;
}

export const Select = ({ options, ...rest }) => html`<${Field} ...${rest}>
  ${attributes => html`<select ...${attributes}>${options.map(([value, text, disabled]) =>
    html`<option key=${value} value=${value} disabled=${disabled}>${text}</option>`)}</select>`}
</${Field}>`;

// A choice between a few options, as buttons side by side.
export function SegmentedControl({ label, options, value, onChange }) {
  const name = useId("segments");
  return html`<fieldset class="segments"><legend>${label}</legend>${options.map(([key, text]) => html`<label key=${key}>
    <input type="radio" name=${name} value=${key} checked=${value === key} onChange=${() => onChange(key)} /><span>${text}</span></label>`)}</fieldset>`;
}

export const Slider = ({ label, value, display = value, ...rest }) => html`<${Field} label=${html`${label} <output>${display}</output>`} ...${rest}>
  ${attributes => html`<input type="range" value=${value} ...${attributes} />`}
</${Field}>`;

// An error that belongs to none of these fields.
export const ErrorMessage = ({ fault, fields = [] }) =>
  fault && !fields.includes(fault.field) && html`<p class="alarm" role="alert">${fault.message}</p>`;

export function Progress({ value, label, secondsLeft, reconnecting }) {
  const quarter = value < 1 ? Math.floor(value * 4) * 25 : 100;
  return html`<div class="progress">
    <progress max="1" value=${value} aria-label=${label}></progress>
    <p><span>${reconnecting ? "The studio does not respond. Trying again …" : label}</span><span>${secondsLeft && !reconnecting ? `${formatDuration(secondsLeft)} left` : ""}</span></p>
    <p class="unseen" role="status">${reconnecting ? "The studio does not respond" : `${quarter} % done`}</p>
  </div>`;
}

export const EmptyState = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`;

export const PageHeader = ({ title, children }) => html`<header class="head"><h1>${title}</h1><p>${children}</p></header>`;

// A line of code with a button to copy it.
export function CodeLine({ label, text }) {
  const [copied, setCopied] = useState(false);
  const code = useRef(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied("Copied");
    } catch { // no clipboard: browsers allow it on this machine and over https only
      getSelection().selectAllChildren(code.current);
      setCopied("Selected");
    }
    setTimeout(() => setCopied(false), 2000);
  };
  return text && html`<div class="code"><span class="code-label">${label}</span><code ref=${code} tabindex="0">${text}</code>
    <button type="button" class="quiet" onClick=${copy} aria-label=${`Copy: ${label}`}>${copied || "Copy"}</button></div>`;
}

export function Dialog({ title, open, onClose, children, wide }) {
  const box = useRef(null), id = useId("dialog");
  useEffect(() => {
    if (open && !box.current.open) box.current.showModal();
    if (!open && box.current.open) box.current.close();
  }, [open]);
  return html`<dialog ref=${box} class=${wide ? "wide" : ""} aria-labelledby=${id} onClose=${onClose}
    onClick=${event => event.target === box.current && onClose()}>
    <div class="dialog-head"><h2 id=${id}>${title}</h2><button type="button" class="quiet" onClick=${onClose}>Close</button></div>
    ${open && children}
  </dialog>`;
}

// The values of a form, with functions that bind its controls to them.
export function useForm(start) {
  const [form, setForm] = useState(start);
  const set = values => setForm(previous => ({ ...previous, ...values }));
  const bind = name => ({ name, value: form[name], onInput: event => set({ [name]: event.target.value }) });
  const tick = name => ({ name, checked: form[name], onChange: event => set({ [name]: event.target.checked }) });
  return { form, set, bind, tick };
}

export const Checkbox = ({ label, ...control }) => html`<label class="tick"><input type="checkbox" ...${control} /><span>${label}</span></label>`;

// What forms and pages of every tab are made of.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { duration } from "./api.js";

let made = 0;
export const useId = name => {
  const id = useRef(null);
  id.current ??= `${name}-${++made}`;
  return id.current;
};

// A labelled control, with a hint or what is wrong with it below.
export function Field({ label, name, hint, fault, children, ...control }) {
  const id = useId(name), said = `${id}-said`;
  const wrong = fault?.field === name ? fault.message : null;
  const attributes = { id, name, "aria-describedby": wrong || hint ? said : null, "aria-invalid": wrong ? "true" : null, ...control };
  return html`<div class=${`field${wrong ? " wrong" : ""}`}>
    <label for=${id}>${label}</label>
    ${children ? children(attributes) : html`<input autocomplete="off" ...${attributes} />`}
    ${(wrong || hint) && html`<p class="said" id=${said}>${wrong ?? hint}</p>`}
  </div>`;
}

export const Choice = ({ options, ...rest }) => html`<${Field} ...${rest}>
  ${attributes => html`<select ...${attributes}>${options.map(([value, text, disabled]) =>
    html`<option key=${value} value=${value} disabled=${disabled}>${text}</option>`)}</select>`}
</${Field}>`;

// One of a few, as buttons side by side.
export function Segments({ label, options, value, onChange }) {
  const name = useId("segments");
  return html`<fieldset class="segments"><legend>${label}</legend>${options.map(([key, text]) => html`<label key=${key}>
    <input type="radio" name=${name} value=${key} checked=${value === key} onChange=${() => onChange(key)} /><span>${text}</span></label>`)}</fieldset>`;
}

export const Slider = ({ label, value, shown = value, ...rest }) => html`<${Field} label=${html`${label} <output>${shown}</output>`} ...${rest}>
  ${attributes => html`<input type="range" value=${value} ...${attributes} />`}
</${Field}>`;

// What is wrong, where no field of the form is to blame.
export const Alarm = ({ fault, fields = [] }) =>
  fault && !fields.includes(fault.field) && html`<p class="alarm" role="alert">${fault.message}</p>`;

export function Progress({ value, label, left, waits }) {
  const quarter = value < 1 ? Math.floor(value * 4) * 25 : 100;
  return html`<div class="progress">
    <progress max="1" value=${value} aria-label=${label}></progress>
    <p><span>${waits ? "The studio does not answer. It is asked again …" : label}</span><span>${left && !waits ? `${duration(left)} left` : ""}</span></p>
    <p class="unseen" role="status">${waits ? "The studio does not answer" : `${quarter} % done`}</p>
  </div>`;
}

export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`;

export const Head = ({ title, children }) => html`<header class="head"><h1>${title}</h1><p>${children}</p></header>`;

// Text to take along: the same thing in Python, or as a command.
export function Code({ label, text }) {
  const [copied, setCopied] = useState(false);
  const code = useRef(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text); // which browsers have on this machine and over https alone
      setCopied("Copied");
    } catch {
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

// The values of a form, and what changes one of them.
export function useForm(start) {
  const [form, setForm] = useState(start);
  const set = values => setForm(before => ({ ...before, ...values }));
  const bind = name => ({ name, value: form[name], onInput: event => set({ [name]: event.target.value }) });
  const tick = name => ({ name, checked: form[name], onChange: event => set({ [name]: event.target.checked }) });
  return { form, set, bind, tick };
}

export const Tick = ({ label, ...control }) => html`<label class="tick"><input type="checkbox" ...${control} /><span>${label}</span></label>`;

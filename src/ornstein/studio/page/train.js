import { html } from "./vendor/preact.js"; import { Head } from "./parts.js"; export function Train() { return html`<${Head} title="Train">soon</${Head}>`; }

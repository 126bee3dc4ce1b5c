import { html } from "./vendor/preact.js"; import { Head } from "./parts.js"; export function Forward() { return html`<${Head} title="Forward">soon</${Head}>`; }

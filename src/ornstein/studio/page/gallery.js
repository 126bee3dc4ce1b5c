import { html } from "./vendor/preact.js"; import { Head } from "./parts.js"; export function Gallery() { return html`<${Head} title="Gallery">soon</${Head}>`; }

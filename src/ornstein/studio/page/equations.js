// Equations of section 20.1 of Bishop & Bishop, as MathML.
const row = (...inner) => `<mrow>${inner.join("")}</mrow>`;
const i = letter => `<mi>${letter}</mi>`;
const o = sign => `<mo${"()|".includes(sign) ? ' stretchy="false"' : ""}>${sign}</mo>`;
const n = digits => `<mn>${digits}</mn>`;
const sub = (base, index) => `<msub>${base}${index}</msub>`;
const squared = (letter, index) => `<msubsup>${i(letter)}${index}${n(2)}</msubsup>`;
const root = (...inner) => `<msqrt>${row(...inner)}</msqrt>`;
const fraction = (top, bottom) => `<mfrac>${row(...top)}${row(...bottom)}</mfrac>`;
const density = (left, right) => row(i("q"), o("("), ...left, o("|"), ...right, o(")"));
const normal = (variable, mean, variance) => row(i("𝒩"), o("("), ...variable, o("|"), ...mean, o(","), ...variance, o(")"));
const math = (label, ...inner) => `<math displaystyle="true" aria-label="${label}">${row(...inner)}</math>`;

const comma = [o(","), `<mspace width="1em"/>`];
const t = i("t"), s = i("s"), zt = sub(i("𝐳"), t), zs = sub(i("𝐳"), s), x = i("𝐱");
const at = sub(i("a"), t), as = sub(i("a"), s), bt = sub(i("b"), t);
const m = i("𝐦"), variance = i("v");
const lowest = sub(i("σ"), `<mtext>min</mtext>`), highest = sub(i("σ"), `<mtext>max</mtext>`);
const power = `<msup>${row(o("("), n(1), o("+"), highest, o("/"), lowest, o(")"))}${t}</msup>`;
const alpha = sub(i("α"), t), keep = sub(i("a"), row(t, o("|"), s)), added = squared("b", row(t, o("|"), s));

export const EQUATIONS = {
  levels: math("signal a t is the square root of alpha t, noise b t the square root of 1 minus alpha t",
    at, o("="), root(alpha), ...comma, bt, o("="), root(n(1), o("−"), alpha)),
  Linear: math("a t is 1 minus t, b t is t", at, o("="), n(1), o("−"), t, ...comma, bt, o("="), t),
  Exploding: math("a t is 1, b t grows from 0 by a power", at, o("="), n(1), ...comma, bt, o("="), lowest, o("("), power, o("−"), n(1), o(")")),
  draw: math("z t is a t times x plus b t times epsilon", zt, o("="), at, x, o("+"), bt, i("𝛆"), ...comma, i("𝛆"), o("∼"), row(i("𝒩"), o("("), n(0), o(","), i("𝐈"), o(")"))),
  kernel: math("q of z t given x is a normal distribution with mean a t times x and variance b t squared", density([zt], [x]), o("="), normal([zt], [at, x], [squared("b", t), i("𝐈")])),
  posterior: math("q of z s given z t and x is a normal distribution with mean m and variance v", density([zs], [zt, o(","), x]), o("="), normal([zs], [m], [variance, i("𝐈")]))
    + math("m is a t given s times b s squared times z t plus b t given s squared times a s times x, over b t squared", m, o("="), fraction([keep, squared("b", s), zt, o("+"), added, as, x], [squared("b", t)]))
    + math("v is b s squared times b t given s squared, over b t squared", variance, o("="), fraction([squared("b", s), added], [squared("b", t)])),
  snr: math("lambda t is the logarithm of a t squared over b t squared", sub(i("λ"), t), o("="), i("ln"), `<mspace width=".2em"/>`, fraction([squared("a", t)], [squared("b", t)])),
};

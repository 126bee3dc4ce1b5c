// Curves and bars, in the page's colours; the values are in a sentence beside them for those who cannot see.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function useDark() {
  const media = useRef(matchMedia("(prefers-color-scheme: dark)")).current;
  const [dark, setDark] = useState(media.matches);
  useEffect(() => {
    const changed = () => setDark(media.matches);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);
  return dark;
}

function drawMarks(plot, marks) {
  const { ctx, bbox } = plot, scale = devicePixelRatio;
  ctx.save();
  for (const { x, ink = "--ink", dashed, dot } of marks) {
    if (x === null || x === undefined || x < plot.scales.x.min || x > plot.scales.x.max) continue;
    const at = plot.valToPos(x, "x", true);
    ctx.strokeStyle = ctx.fillStyle = colour(ink);
    ctx.lineWidth = 1.5 * scale;
    ctx.setLineDash(dashed ? [4 * scale, 4 * scale] : []);
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    for (const y of dot ?? []) {
      if (y === null || y === undefined) continue;
      ctx.beginPath();
      ctx.arc(at, plot.valToPos(y, "y", true), 4 * scale, 0, 7);
      ctx.fill();
    }
  }
  ctx.restore();
}

// A stretch of the x axis in another colour, below the curves.
function drawShade(plot, shade) {
  if (!shade || !shade.every(Number.isFinite)) return;
  const { ctx, bbox } = plot, [from, to] = shade.map(x => Math.max(bbox.left, Math.min(bbox.left + bbox.width, plot.valToPos(x, "x", true))));
  ctx.save();
  ctx.fillStyle = `${colour("--c2")}38`;
  ctx.fillRect(from, bbox.top, to - from, bbox.height);
  ctx.restore();
}

// Tell where something is dragged, from and to, by mouse, pen or finger.
function watchDrag(plot, told) {
  const { over } = plot;
  let from = null;
  const at = event => plot.posToVal(event.clientX - over.getBoundingClientRect().left, "x");
  over.classList.add("drags");
  over.addEventListener("pointerdown", event => {
    over.setPointerCapture(event.pointerId);
    from = at(event);
  });
  over.addEventListener("pointermove", event => from !== null && told()(from, at(event)));
  for (const end of ["pointerup", "pointercancel"]) over.addEventListener(end, () => { from = null; });
}

export function Chart({ label, x, lines, marks = [], bars, bands = [], shade = null, onDrag = null, height = 170, xRange, yRange, xLabel }) {
  const box = useRef(null), plot = useRef(null), now = useRef({});
  now.current = { marks, xRange, yRange, shade, onDrag };
  const dark = useDark();
  const data = [x, ...lines.map(line => line.y)];

  useEffect(() => {
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--hair"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const options = {
      width: box.current.clientWidth || 300, height, legend: { show: false }, cursor: { show: false },
      padding: [8, 12, 0, 0],
      scales: {
        x: { time: false, range: (_, low, high) => now.current.xRange ?? [low, high] },
        y: { range: (_, low, high) => now.current.yRange ?? (low === high ? [low - 1, high + 1] : [low - (high - low) * 0.06, high + (high - low) * 0.06]) },
      },
      axes: [{ ...axis, grid: { show: false }, size: 26, label: xLabel, labelSize: 18, labelGap: 0, labelFont: axis.font, space: 50 }, { ...axis, size: 44, space: 36 }],
      series: [{}, ...lines.map(line => ({
        stroke: line.bare ? "transparent" : colour(line.ink), width: line.bare ? 0 : 2, spanGaps: !line.gaps && !line.bare, points: { show: Boolean(line.dots), size: 6, fill: colour(line.ink) }, dash: line.dashed ? [6, 4] : undefined,
        fill: line.filled || bars ? `${colour(line.ink)}${bars ? "80" : "26"}` : undefined, paths: bars ? uPlot.paths.bars({ size: [1, 100], gap: 1 }) : undefined,
      }))],
      bands: bands.map(one => ({ series: [one.high + 1, one.low + 1], fill: `${colour(one.ink)}${one.part}` })),
      hooks: { drawAxes: [self => drawShade(self, now.current.shade)], draw: [self => drawMarks(self, now.current.marks)] },
    };
    const made = plot.current = new uPlot(options, data, box.current);
    if (onDrag) watchDrag(made, () => now.current.onDrag);
    const watch = new ResizeObserver(() => box.current?.clientWidth && made.setSize({ width: box.current.clientWidth, height }));
    watch.observe(box.current);
    return () => { watch.disconnect(); made.destroy(); };
  }, [dark, lines.length, Boolean(bars)]);

  useEffect(() => plot.current?.setData(data), [x, ...lines.map(line => line.y), xRange?.join(), yRange?.join()]);
  useEffect(() => plot.current?.redraw(false), [JSON.stringify([marks, shade])]);

  return html`<figure class="chart">
    ${lines.length > 1 && html`<figcaption>${lines.filter(line => line.name).map(line => html`<span class="key" key=${line.name}><i class=${line.ink.slice(2)}></i>${line.name}</span>`)}
      ${bands.map(one => html`<span class="key" key=${one.name}><i class=${`${one.ink.slice(2)} band part${one.part}`}></i>${one.name}</span>`)}</figcaption>`}
    <div ref=${box} role="img" aria-label=${label}></div>
  </figure>`;
}

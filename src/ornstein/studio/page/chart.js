// Charts of curves and bars in the page's colours.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function useDark() {
  const media = useRef(matchMedia("(prefers-color-scheme: dark)")).current;
  const [dark, setDark] = useState(media.matches);
  useEffect(() => {
    const onChange = () => setDark(media.matches);
    media.addEventListener("change", onChange);
    return () => media.removeEventListener("change", onChange);
  }, []);
  return dark;
}

function drawMarks(plot, marks) {
  const { ctx, bbox } = plot, scale = devicePixelRatio;
  ctx.save();
  for (const { x, ink = "--ink", dashed, dots } of marks) {
    if (x === null || x === undefined || x < plot.scales.x.min || x > plot.scales.x.max) continue;
    const left = plot.valToPos(x, "x", true);
    ctx.strokeStyle = ctx.fillStyle = colour(ink);
    ctx.lineWidth = 1.5 * scale;
    ctx.setLineDash(dashed ? [4 * scale, 4 * scale] : []);
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    for (const y of dots ?? []) {
      if (y === null || y === undefined) continue;
      ctx.beginPath();
      ctx.arc(left, plot.valToPos(y, "y", true), 4 * scale, 0, 7);
      ctx.fill();
    }
  }
  ctx.restore();
}

// Shade an interval of the x axis, below the curves.
function drawShade(plot, shade) {
  if (!shade || !shade.every(Number.isFinite)) return;
  const { ctx, bbox } = plot, [from, to] = shade.map(x => Math.max(bbox.left, Math.min(bbox.left + bbox.width, plot.valToPos(x, "x", true))));
  ctx.save();
  ctx.fillStyle = `${colour("--c2")}38`;
  ctx.fillRect(from, bbox.top, to - from, bbox.height);
  ctx.restore();
}

// Report the x interval that is dragged over by mouse, pen or finger; the callback may change between drawings.
function watchDrag(plot, currentCallback) {
  const { over } = plot;
  let start = null;
  const valueAt = event => plot.posToVal(event.clientX - over.getBoundingClientRect().left, "x");
  over.classList.add("drags");
  over.addEventListener("pointerdown", event => {
    over.setPointerCapture(event.pointerId);
    start = valueAt(event);
  });
  over.addEventListener("pointermove", event => start !== null && currentCallback()(start, valueAt(event)));
  for (const end of ["pointerup", "pointercancel"]) over.addEventListener(end, () => { start = null; });
}

export function Chart({ label, x, lines, marks = [], bars, bands = [], shade = null, onDrag = null, height = 170, xRange, yRange, xLabel }) {
  const box = useRef(null), plot = useRef(null), latest = useRef({}); // the latest properties, for callbacks of the plot
  latest.current = { marks, xRange, yRange, shade, onDrag };
  const dark = useDark();
  const data = [x, ...lines.map(line => line.y)];

  useEffect(() => {
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--hair"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const options = {
      width: box.current.clientWidth || 300, height, legend: { show: false }, cursor: { show: false },
      padding: [8, 12, 0, 0],
      scales: {
        x: { time: false, range: (_, low, high) => latest.current.xRange ?? [low, high] },
        y: { range: (_, low, high) => latest.current.yRange ?? (low === high ? [low - 1, high + 1] : [low - (high - low) * 0.06, high + (high - low) * 0.06]) },
      },
      axes: [{ ...axis, grid: { show: false }, size: 26, label: xLabel, labelSize: 18, labelGap: 0, labelFont: axis.font, space: 50 }, { ...axis, size: 44, space: 36 }],
      series: [{}, ...lines.map(line => ({
        stroke: line.hidden ? "transparent" : colour(line.ink), width: line.hidden ? 0 : 2, spanGaps: !line.gaps && !line.hidden, points: { show: Boolean(line.dots), size: 6, fill: colour(line.ink) }, dash: line.dashed ? [6, 4] : undefined,
        fill: line.filled || bars ? `${colour(line.ink)}${bars ? "80" : "26"}` : undefined, paths: bars ? uPlot.paths.bars({ size: [1, 100], gap: 1 }) : undefined,
      }))],
      bands: bands.map(band => ({ series: [band.high + 1, band.low + 1], fill: `${colour(band.ink)}${band.opacity}` })),
      hooks: { drawAxes: [self => drawShade(self, latest.current.shade)], draw: [self => drawMarks(self, latest.current.marks)] },
    };
    const created = plot.current = new uPlot(options, data, box.current);
    if (onDrag) watchDrag(created, () => latest.current.onDrag);
    const observer = new ResizeObserver(() => box.current?.clientWidth && created.setSize({ width: box.current.clientWidth, height }));
    observer.observe(box.current);
    return () => { observer.disconnect(); created.destroy(); };
  }, [dark, lines.length, Boolean(bars)]);

  useEffect(() => plot.current?.setData(data), [x, ...lines.map(line => line.y), xRange?.join(), yRange?.join()]);
  useEffect(() => plot.current?.redraw(false), [JSON.stringify([marks, shade])]);

  return html`<figure class="chart">
    ${lines.length > 1 && html`<figcaption>${lines.filter(line => line.name).map(line => html`<span class="key" key=${line.name}><i class=${line.ink.slice(2)}></i>${line.name}</span>`)}
      ${bands.map(band => html`<span class="key" key=${band.name}><i class=${`${band.ink.slice(2)} band part${band.opacity}`}></i>${band.name}</span>`)}</figcaption>`}
    <div ref=${box} role="img" aria-label=${label}></div>
  </figure>`;
}

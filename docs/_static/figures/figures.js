// What the moving figures share: plots as SVG text, and sliders that redraw. No library. When the site is built, the same
// files draw the stills, in an engine without a page: hence text, and no DOM, in everything that draws.

const figures = {};

// A seeded source of standard normal numbers, so that everybody sees the same picture.
function normals(count, seed = 1) {
  const uniform = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

const range = (n) => Array.from({ length: n }, (_, i) => i);
const show = (x, digits = 2) => x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");

class Plot {
  // x and y: the ranges shown; at: [left, top, width, height] in a drawing that is 480 wide.
  constructor({ x, y, at = [46, 12, 420, 230], xLabel = "", yLabel = "", xTicks = [], yTicks = [], title = "" }) {
    Object.assign(this, { x, y, at, parts: [], inside: [] });
    const [left, top, width, height] = at;
    const bottom = top + height;
    this.parts.push(`<rect class="frame" x="${left}" y="${top}" width="${width}" height="${height}"/>`);
    for (const t of xTicks) {
      this.parts.push(`<path class="tick" d="M${this.px(t)} ${bottom}v4"/>`);
      this.parts.push(`<text class="middle" x="${this.px(t)}" y="${bottom + 17}">${String(t).replace("-", "−")}</text>`);
    }
    for (const t of yTicks) {
      this.parts.push(`<path class="tick" d="M${left} ${this.py(t)}h-4"/>`);
      this.parts.push(`<text class="end" x="${left - 7}" y="${this.py(t) + 4}">${String(t).replace("-", "−")}</text>`);
    }
    const middle = left + width / 2;
    if (xLabel) this.parts.push(`<text class="middle" x="${middle}" y="${bottom + (xTicks.length ? 35 : 18)}">${xLabel}</text>`);
    if (yLabel) this.parts.push(`<text x="${left + 6}" y="${top + 16}">${yLabel}</text>`);
    if (title) this.parts.push(`<text class="middle" x="${middle}" y="${top - 8}">${title}</text>`);
  }

  px(x) {
    return +(this.at[0] + ((x - this.x[0]) / (this.x[1] - this.x[0])) * this.at[2]).toFixed(2);
  }

  py(y) {
    const [low, high] = this.y;
    const inside = Math.min(Math.max(y, low - (high - low)), high + (high - low)); // far outside: clipped, but finite
    return +(this.at[1] + this.at[3] - ((inside - low) / (high - low)) * this.at[3]).toFixed(2);
  }

  line(points, cls) {
    const d = points.map(([x, y]) => `${this.px(x)} ${this.py(y)}`).join("L");
    this.inside.push(`<path class="line ${cls}" d="M${d}"/>`);
  }

  curve(f, cls, n = 160) {
    this.line(range(n + 1).map((i) => [this.x[0] + ((this.x[1] - this.x[0]) * i) / n, 0]).map(([x]) => [x, f(x)]), cls);
  }

  bar(x, y, width, cls, opacity = 1) {
    const [a, b] = [this.py(0), this.py(y)];
    const w = this.px(x + width / 2) - this.px(x - width / 2);
    const size = `x="${this.px(x - width / 2)}" y="${Math.min(a, b)}" width="${w.toFixed(2)}" height="${Math.abs(a - b).toFixed(2)}"`;
    this.inside.push(`<rect class="bar ${cls}" ${size} opacity="${opacity.toFixed(3)}"/>`);
  }

  band(x1, x2) {
    const [, top, , height] = this.at;
    this.inside.push(`<rect class="band" x="${this.px(x1)}" y="${top}" width="${this.px(x2) - this.px(x1)}" height="${height}"/>`);
  }

  dot(x, y, cls, r = 5) {
    this.inside.push(`<circle class="dot ${cls}" cx="${this.px(x)}" cy="${this.py(y)}" r="${r}"/>`);
  }

  arrow(x, y, cls) {
    const [x0, y0, x1, y1] = [this.px(0), this.py(0), this.px(x), this.py(y)];
    const angle = Math.atan2(y1 - y0, x1 - x0);
    const wing = (turn) => `M${x1} ${y1}l${(-9 * Math.cos(angle + turn)).toFixed(2)} ${(-9 * Math.sin(angle + turn)).toFixed(2)}`;
    this.inside.push(`<path class="line ${cls}" d="M${x0} ${y0}L${x1} ${y1}${wing(0.45)}${wing(-0.45)}"/>`);
  }

  text(x, y, words, cls = "") {
    this.parts.push(`<text class="${cls}" x="${this.px(x)}" y="${this.py(y)}">${words}</text>`);
  }

  toString() {
    const [x, y, width, height] = this.at; // what is inside the frame is cut off there
    const frame = `x="${x}" y="${y}" width="${width}" height="${height}" viewBox="${x} ${y} ${width} ${height}"`;
    return `<svg class="inside" ${frame}>${this.inside.join("")}</svg>${this.parts.join("")}`;
  }
}

// spec: alt (what the picture shows), controls [[id, label, min, max, step, value, what to show of a value?]], height,
// draw(values) -> [plots, a sentence that reads the picture].
function figure(name, spec) {
  figures[name] = spec;
  if (typeof document === "undefined") return;
  for (const el of document.querySelectorAll(`[data-figure="${name}"]`)) mount(el, spec);
}

function render(spec, values) {
  const [plots, reading] = spec.draw(values);
  return [`<svg viewBox="0 0 480 ${spec.height ?? 290}" aria-hidden="true">${plots.join("")}</svg>`, reading];
}

const still = (name) => {
  const spec = figures[name];
  return [spec.alt, ...render(spec, Object.fromEntries(spec.controls.map(([id, , , , , value]) => [id, value])))];
};

function mount(el, spec) {
  const form = document.createElement("div");
  form.className = "controls";
  const inputs = spec.controls.map(([id, label, min, max, step, value, name = (x) => show(x, step < 0.1 ? 2 : step < 1 ? 1 : 0)]) => {
    const row = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "range", min, max, step, value, name: id });
    const output = document.createElement("output");
    input.setAttribute("aria-label", label);
    row.append(`${label} `, output, input);
    form.append(row);
    return { input, output, name };
  });
  const update = () => {
    for (const { input, output, name } of inputs) {
      output.textContent = name(+input.value);
      input.setAttribute("aria-valuetext", output.textContent);
    }
    const values = Object.fromEntries(inputs.map(({ input }) => [input.name, +input.value]));
    [el.querySelector(".drawing").innerHTML, el.querySelector(".reading").textContent] = render(spec, values);
  };
  form.addEventListener("input", update);
  el.querySelector(".drawing").after(form);
  el.querySelector(".reading").setAttribute("aria-live", "polite");
  update();
}

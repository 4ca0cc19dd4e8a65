// Shared by all live figures: `read_module` puts this file in front of each figure's own.
// Class names, ids and prompts are data: they reach the page only as text nodes and attribute values.

function build(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (key === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat());
  return node;
}
const h = (tag, props = {}, ...children) => build(document.createElement(tag), props, children);
const svg = (tag, props = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);

/** Fixed decimals, rounded as Python's format does (exact ties go to the even digit; toFixed takes the upper one). */
function fixed(x, digits) {
  const tie = Math.abs(x * 2 ** (digits + 1)) % 2 === 1;
  return (tie ? (2 * Math.round((x * 10 ** digits) / 2)) / 10 ** digits : x).toFixed(digits);
}
const signed = (x, digits) => fixed(x, digits).replace("-", "\u2212");
const percent = (x) => (x === null ? "undefined" : `${fixed(100 * x, 1)}\u00a0%`);
/** A score as in Python: its value and the ends of its interval, or only one of the two. */
function scoreText([value, low, high]) {
  if (low === null) return percent(value);
  return value === null ? `${fixed(100 * low, 1)} to ${percent(high)}` : `${percent(value)} [${fixed(100 * low, 1)}, ${fixed(100 * high, 1)}]`;
}
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** A labelled native range input; `set(value, text)` moves it and names its value for eyes and screen readers. */
function slider(label, { min, max, step = 1 }, onInput) {
  const input = h("input", { type: "range", min, max, step, on: { input: () => onInput(Number(input.value)) } });
  const shown = h("strong", { "aria-hidden": "true" });
  const node = h("label", { class: "clipnb-slider" }, h("span", {}, label), shown, input);
  const set = (value, text) => {
    input.value = value;
    input.setAttribute("aria-valuetext", text);
    shown.textContent = text;
  };
  return { node, set };
}

/** A labelled native list of options, [[value, text], ...]. */
function choice(label, options, onChange) {
  const select = h("select", { on: { change: () => onChange(select.value) } },
    options.map(([value, text]) => h("option", { value }, text)));
  return { node: h("label", { class: "clipnb-option" }, `${label} `, select), set: (value) => (select.value = value) };
}

function checkbox(label, onChange) {
  const input = h("input", { type: "checkbox", on: { change: () => onChange(input.checked) } });
  return { node: h("label", { class: "clipnb-option" }, input, ` ${label}`), set: (value) => (input.checked = value) };
}

const button = (label, click) => h("button", { type: "button", class: "clipnb-button", on: { click } }, label);

/** How the numbers are computed, with the current values in place of the symbols; one line each. */
function formulas() {
  const node = h("div", { class: "clipnb-formulas" });
  return { node, set: (...lines) => node.replaceChildren(...lines.map((line) => h("p", {}, line))) };
}

/** The numbers of the current state, read out when they change; each keeps its unrounded value in `data-value`. */
function numbers(layout = "") {
  const node = h("dl", { class: `clipnb-numbers ${layout}`, "aria-live": "polite", "aria-atomic": "true" });
  const set = (rows) =>
    node.replaceChildren(
      ...rows.map(([name, label, value, text]) =>
        h("div", {}, h("dt", {}, label), h("dd", { "data-name": name, "data-value": value }, text)),
      ),
    );
  return { node, set };
}

/** One image of a list with its name, and a mark that says in words what its border says in colour. */
function picture(item, mark, tone = null) {
  return h("li", { class: "clipnb-picture", "data-tone": tone }, ...pictureParts(item, mark));
}
function pictureParts({ src, name }, mark) {
  return [
    h("img", { src, alt: `an image of the class “${name}”`, width: 64, height: 64, class: "dark-light" }),
    h("span", {}, name),
    h("span", { class: "clipnb-mark" }, mark),
  ];
}

/** Axes with percent on y; `x` and `y` map data to pixels. */
function chart(label, { xRange, xTicks, xLabel, yLabel, xFormat = String }) {
  const [left, right, top, bottom] = [46, 298, 24, 172];
  const x = (value) => left + ((value - xRange[0]) / (xRange[1] - xRange[0] || 1)) * (right - left);
  const y = (value) => bottom - value * (bottom - top);
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  const node = svg(
    "svg",
    { class: "clipnb-chart", viewBox: "0 0 320 214", role: "img", "aria-label": label },
    ticks.map((t) => svg("line", { class: "grid", x1: left, x2: right, y1: y(t), y2: y(t) })),
    ticks.map((t) => svg("text", { x: left - 5, y: y(t) + 4, "text-anchor": "end" }, `${100 * t}\u00a0%`)),
    xTicks.map((t) => svg("text", { x: x(t), y: bottom + 18, "text-anchor": "middle" }, xFormat(t))),
    svg("path", { class: "axis", d: `M${left},${top}V${bottom}H${right}` }),
    svg("text", { x: (left + right) / 2, y: 210, "text-anchor": "middle" }, xLabel),
    svg("text", { x: 4, y: 12 }, yLabel),
  );
  /** A dashed line of chance with its name, where a curve above chance leaves room. */
  const chance = (text, points) => {
    const above = Math.max(y(points[0][1]) - 8, top + 14);
    node.append(svg("path", { class: "chance", d: path(points.map(([a, b]) => [x(a), y(b)])) }),
      svg("text", { class: "chance", x: left + 6, y: above }, text));
  };
  return { node, x, y, chance };
}
const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L")}`;

/** A horizontal bar with its name and number; `mark` draws a reference line, `interval` a line from low to high. */
function bar({ name, label, note, value, width = value, text, tone = null, mark = null, interval = null }) {
  return h(
    "li",
    { "data-name": name, "data-value": value },
    h("span", {}, label, " ", h("small", {}, note)),
    h("strong", {}, text),
    h(
      "span",
      { class: "clipnb-track" },
      h("i", { style: `width:${100 * width}%`, "data-tone": tone }),
      interval === null ? [] : h("s", { style: `left:${100 * interval[0]}%;width:${100 * (interval[1] - interval[0])}%` }),
      mark === null ? [] : h("b", { style: `left:calc(${100 * mark}% - 1px)` }),
    ),
  );
}

/** Keeps calling `move` with the pointer's place in the chart's own units while it is pressed. */
function dragged(chart, move) {
  const follow = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    move(point.x, point.y, event.type === "pointerdown");
  };
  chart.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    chart.setPointerCapture(event.pointerId);
    follow(event);
  });
  chart.addEventListener("pointermove", (event) => {
    if (chart.hasPointerCapture(event.pointerId)) follow(event);
  });
  chart.classList.add("clipnb-dragged");
}

/** Puts the figure in the page and redraws it whenever one of `traits` changes, here or in Python. */
function start({ model, el }, root, traits, update) {
  for (const name of traits) model.on(`change:${name}`, update);
  update();
  el.append(root);
  return () => {
    for (const name of traits) model.off(`change:${name}`, update);
  };
}
function put(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}
const figure = (name, label, ...children) =>
  h(
    "div",
    // JupyterLab would take the arrow keys for its own shortcuts.
    { class: "clipnb-figure", "data-figure": name, role: "group", "aria-label": label, "data-lm-suppress-shortcuts": true },
    ...children,
  );

function render({ model, el }) {
  const { name, thresholds, decimals, max_cost, edges, sets } = model.get("content");
  const last = thresholds.length - 1;
  const parts = ["validation", "test"]; // a notebook that was saved may hold `sets` in another order
  const sliders = {
    line: slider(`Threshold: call it “${name}” from this score on`, { min: 0, max: last }, (t) => put(model, { threshold: thresholds[t] })),
    miss: slider("Cost of a miss", { min: 1, max: max_cost }, (miss_cost) => put(model, { miss_cost })),
    hit: slider("Cost of a false hit", { min: 1, max: max_cost }, (false_cost) => put(model, { false_cost })),
  };
  const results = numbers();
  const shown = formulas();
  const [left, right, height] = [8, 312, 78];
  const x = (value) => left + ((value - thresholds[0]) / (thresholds[last] - thresholds[0] || 1)) * (right - left);
  const lines = {};

  /** The two groups of one set, each drawn as shares of the group. */
  function histogram(part) {
    const { wanted, others, images, positives } = sets[part];
    const shares = [others, wanted].map((counts) => counts.map((count) => count / counts.reduce((a, b) => a + b, 0)));
    const top = Math.max(...shares.flat());
    const y = (share) => 18 + height * (1 - share / top);
    const outline = (values) => `M${x(edges[0])},${y(0)}` + values.map((value, b) =>
      `L${x(edges[b]).toFixed(1)},${y(value).toFixed(1)}L${x(edges[b + 1]).toFixed(1)},${y(value).toFixed(1)}`).join("") + `L${x(edges[edges.length - 1])},${y(0)}`;
    lines[part] = svg("path", { class: "threshold" });
    const node = svg("svg", { class: "clipnb-chart clipnb-histogram", viewBox: `0 0 320 ${height + 36}`, role: "img",
      "aria-label": `Scores on ${part}: ${positives} wanted images and ${images - positives} others` },
      svg("path", { class: "others", d: outline(shares[0]) }), svg("path", { class: "line", d: outline(shares[1]) }),
      svg("path", { class: "axis", d: `M${left},${y(0)}H${right}` }), lines[part],
      svg("text", { x: left, y: 12 }, `${part}: ${positives} wanted (line), ${images - positives} others (filled)`),
      [thresholds[0], thresholds[last]].map((value, end) =>
        svg("text", { x: x(value), y: y(0) + 14, "text-anchor": end ? "end" : "start" }, signed(value, decimals))));
    dragged(node, (at) => put(model, { threshold: thresholds[nearest(thresholds[0] + ((at - left) / (right - left)) * (thresholds[last] - thresholds[0]))] }));
    return node;
  }
  const nearest = (value) => thresholds.reduce((best, threshold, t) => (Math.abs(threshold - value) < Math.abs(thresholds[best] - value) ? t : best), 0);
  const charts = parts.map(histogram);

  const costs = (part) => sets[part].misses.map((misses, t) => model.get("miss_cost") * misses + model.get("false_cost") * sets[part].false_hits[t]);
  const cheapest = (part) => costs(part).reduce((best, cost, t, all) => (cost < all[best] ? t : best), 0);
  const go = (part) => button(`Cheapest on ${part}`, () => put(model, { threshold: thresholds[cheapest(part)] }));
  const root = figure("transfer", `Live figure: one threshold for “${name}” on two sets of images`,
    h("div", { class: "clipnb-controls" }, sliders.line.node),
    h("div", { class: "clipnb-columns" }, h("div", {}, charts),
      h("div", {}, h("div", { class: "clipnb-columns" }, sliders.miss.node, sliders.hit.node),
        h("p", { class: "clipnb-options" }, parts.map(go)))),
    results.node, shown.node,
    h("p", { class: "clipnb-note" },
      "Drag the line in either histogram, or use the slider. Costs are also given for 1,000 images, because the sets have different sizes. " +
      "The cheapest threshold on test is known only afterwards: whoever chooses it reports a cost that new images will not keep."));

  function update() {
    const t = nearest(model.get("threshold"));
    const [miss, hit] = [model.get("miss_cost"), model.get("false_cost")];
    sliders.line.set(t, signed(thresholds[t], decimals));
    sliders.miss.set(miss, String(miss));
    sliders.hit.set(hit, String(hit));
    for (const line of Object.values(lines)) line.setAttribute("d", `M${x(thresholds[t]).toFixed(1)},18V${height + 18}`);
    const each = (cost, part) => `${cost} (${fixed((1000 * cost) / sets[part].images, 1)})`;
    const rows = parts.map((part) => {
      const cost = costs(part)[t];
      return [part, `cost on ${part} (for 1,000 images)`, cost, each(cost, part)];
    });
    const test = costs("test");
    const [honest, best] = [cheapest("validation"), cheapest("test")];
    results.set([...rows,
      ["honest", "cost on test of the threshold that is cheapest on validation", test[honest], each(test[honest], "test")],
      ["best", "lowest possible cost on test", test[best], each(test[best], "test")],
      ["nothing", "cost on test of showing nothing", miss * sets.test.positives, each(miss * sets.test.positives, "test")],
    ]);
    shown.set(...parts.map((part) => {
      const { misses, false_hits } = sets[part];
      return `Cost on ${part} = ${miss} × ${misses[t]} missed + ${hit} × ${false_hits[t]} falsely found = ${miss * misses[t] + hit * false_hits[t]}`;
    }));
    root.dataset.state = `threshold=${thresholds[t]};miss=${miss};false=${hit}`;
  }
  return start({ model, el }, root, ["threshold", "miss_cost", "false_cost"], update);
}
export default { render };

function render({ model, el }) {
  const { name, dataset, thresholds, decimals, tp, fp, fn, tn, precision, recall, f1, base_rate, pictures, picked } =
    model.get("content");
  const control = slider(`Threshold: call it “${name}” from this score on`, { min: 0, max: thresholds.length - 1 },
    (position) => put(model, { threshold: thresholds[position] }));
  const results = numbers("clipnb-counts");
  const shown = formulas();

  const curve = chart(`Precision against recall for ${name}`, {
    xRange: [0, 1], xTicks: [0, 0.5, 1], xLabel: "recall", yLabel: "precision", xFormat: (t) => `${100 * t}\u00a0%`,
  });
  const dot = svg("circle", { class: "dot", r: 5 });
  const points = thresholds.flatMap((_, t) => (precision[t] === null ? [] : [[curve.x(recall[t]), curve.y(precision[t])]]));
  curve.chance(`chance: ${percent(base_rate)} of the set`, [[0, base_rate], [1, base_rate]]);
  const steps = points.flatMap(([x, y], i) => (i ? [[points[i - 1][0], y], [x, y]] : [[x, y]]));
  curve.node.append(svg("path", { class: "line", d: path(steps) }), dot);

  const found = h("div", { class: "clipnb-group" });
  const left = h("div", { class: "clipnb-group" });
  const root = figure("threshold", `Live figure: finding ${name} with a threshold`,
    h("div", { class: "clipnb-controls" }, control.node),
    h("div", { class: "clipnb-columns" }, h("div", {}, results.node, shown.node), curve.node),
    found,
    left,
    h("p", { class: "clipnb-note" },
      `Counts are over all ${tp[0] + fp[0] + fn[0] + tn[0]} images of ${dataset}. Shown: ${picked}.`));

  const shelf = (node, title, items, mark) =>
    node.replaceChildren(
      h("p", { class: "clipnb-title" }, `${title} (${items.length} of the ${pictures.length} shown)`),
      h("ul", { class: "clipnb-pictures" }, items.map((item) => picture(item, ...mark(item)))));

  function update() {
    const value = model.get("threshold");
    const t = thresholds.reduce((best, x, i) => (Math.abs(x - value) < Math.abs(thresholds[best] - value) ? i : best), 0);
    control.set(t, fixed(thresholds[t], decimals));
    results.set([
      ["tp", `found, ${name} (true positives)`, tp[t], String(tp[t])],
      ["fp", `found, not ${name} (false positives)`, fp[t], String(fp[t])],
      ["fn", `left out, ${name} (false negatives)`, fn[t], String(fn[t])],
      ["tn", `left out, not ${name} (true negatives)`, tn[t], String(tn[t])],
      ["precision", "precision", precision[t], percent(precision[t])],
      ["recall", "recall", recall[t], percent(recall[t])],
      ["f1", "F1", f1[t], fixed(f1[t], 3)],
    ]);
    shown.set(
      `Precision = TP / (TP + FP) = ${tp[t]} / (${tp[t]} + ${fp[t]}) = ${percent(precision[t])}`,
      `Recall = TP / (TP + FN) = ${tp[t]} / (${tp[t]} + ${fn[t]}) = ${percent(recall[t])}`,
      `F1 = 2 TP / (2 TP + FP + FN) = ${2 * tp[t]} / ${2 * tp[t] + fp[t] + fn[t]} = ${fixed(f1[t], 3)}`);
    dot.setAttribute("cx", curve.x(recall[t]));
    dot.setAttribute("cy", curve.y(precision[t] ?? 0));
    dot.setAttribute("opacity", precision[t] === null ? 0 : 1);
    const score = (item) => signed(item.score, decimals + 1);
    shelf(found, "Found", pictures.filter((item) => item.score >= thresholds[t]),
      (item) => (item.positive ? [`✓ ${score(item)}`, "yes"] : [`✗ ${score(item)}`, "no"]));
    shelf(left, "Left out", pictures.filter((item) => item.score < thresholds[t]),
      (item) => (item.positive ? [`missed ${score(item)}`, "no"] : [score(item)]));
    root.dataset.state = `threshold=${thresholds[t]}`;
  }
  return start({ model, el }, root, ["threshold"], update);
}
export default { render };

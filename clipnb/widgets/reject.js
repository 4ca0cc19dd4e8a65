function render({ model, el }) {
  const { dataset, total, wanted, thresholds, answered, right, precision, low, high, pictures } = model.get("content");
  const control = slider("Answer this share of the images, the surest first", { min: 1, max: thresholds.length },
    (share) => put(model, { answered: share }));
  const results = numbers();
  const shown = formulas();

  const curve = chart("Right among the answers, against the share of images that are answered", {
    xRange: [0, 1], xTicks: [0, 0.5, 1], xLabel: "share of images answered", yLabel: "right among the answers",
    xFormat: (t) => `${100 * t}\u00a0%`,
  });
  const dot = svg("circle", { class: "dot", r: 5 });
  const at = (t, value) => [curve.x(answered[t] / total), curve.y(value)];
  const line = `M${curve.x(0)},${curve.y(wanted)}H${curve.x(1)}`;
  curve.node.append(
    svg("path", { class: "line", d: path(precision.map((value, t) => at(t, value))) }),
    svg("path", { class: "chance", d: line }),
    svg("text", { class: "chance", x: curve.x(1), y: curve.y(wanted) - 5, "text-anchor": "end" }, `wanted: ${fixed(100 * wanted, 0)}\u00a0%`),
    dot,
  );

  const kept = h("div", { class: "clipnb-group" });
  const sent = h("div", { class: "clipnb-group" });
  const root = figure("reject", "Live figure: which images the model answers, and which go to a person",
    h("div", { class: "clipnb-controls" }, control.node),
    h("div", { class: "clipnb-columns" }, h("div", {}, results.node, shown.node), curve.node),
    kept,
    sent,
    h("p", { class: "clipnb-note" },
      `Numbers are over all ${total} images of ${dataset}; ${pictures.length} of them are shown, with the confidence of their answer.`));

  const shelf = (node, title, items) =>
    node.replaceChildren(
      h("p", { class: "clipnb-title" }, `${title} (${items.length} of the ${pictures.length} shown)`),
      h("ul", { class: "clipnb-pictures" }, items.map((item) =>
        picture(item, `${item.right ? "✓ right" : "✗ wrong"}, ${fixed(item.confidence, 2)}`, item.right ? "yes" : "no"))));

  function update() {
    const t = model.get("answered") - 1;
    const person = total - answered[t];
    shown.set(`Right among the answers = ${right[t]} / ${answered[t]} = ${percent(precision[t])}`,
      `Share that goes to a person = ${person} / ${total} = ${percent(person / total)}`);
    control.set(t + 1, `${t + 1}\u00a0%`);
    results.set([
      ["threshold", "answered from a confidence of", thresholds[t], fixed(thresholds[t], 3)],
      ["answered", "answered by the model", answered[t], String(answered[t])],
      ["person", "sent to a person", person, String(person)],
      ["right", "right answers", right[t], String(right[t])],
      ["precision", "right among the answers, 95\u00a0% interval", precision[t],
        `${percent(precision[t])} [${fixed(100 * low[t], 1)}, ${fixed(100 * high[t], 1)}]`],
    ]);
    const [x, y] = at(t, precision[t]);
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    shelf(kept, "Answered", pictures.filter((item) => item.confidence >= thresholds[t]));
    shelf(sent, "To a person", pictures.filter((item) => item.confidence < thresholds[t]));
    root.dataset.state = `answered=${t + 1}`;
  }
  return start({ model, el }, root, ["answered"], update);
}
export default { render };

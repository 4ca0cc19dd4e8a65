function render({ model, el }) {
  const { pictures, recall, chance, name, total, num_classes } = model.get("content");
  const last = recall.length;
  let picked = 0;

  const control = slider("K: how many guesses count", { min: 1, max: last }, (k) => put(model, { k }));
  const results = numbers();
  const shown = formulas();
  const cards = pictures.map((item, i) => {
    const pick = () => {
      picked = i;
      update();
    };
    return h("button", { type: "button", class: "clipnb-picture", on: { focus: pick, mouseenter: pick, click: pick } },
      ...pictureParts(item, ""));
  });
  const details = h("div", { class: "clipnb-details", "aria-live": "polite" });

  const ticks = [...new Set([1, Math.ceil(last / 2), last])];
  const curve = chart(`Recall@K for K from 1 to ${last}, with chance`, {
    xRange: [1, last], xTicks: ticks, xLabel: "K", yLabel: "Recall@K",
  });
  const dot = svg("circle", { class: "dot", r: 5 });
  curve.chance("chance, K / C", chance.map((value, i) => [i + 1, value]));
  curve.node.append(
    svg("path", { class: "line", d: path(recall.map((value, i) => [curve.x(i + 1), curve.y(value)])) }),
    dot,
  );

  const root = figure("recall", "Live figure: Recall at K",
    h("div", { class: "clipnb-controls" }, control.node),
    h("div", { class: "clipnb-columns" }, h("div", {}, results.node, shown.node), curve.node),
    h("div", { class: "clipnb-pictures" }, cards),
    details,
    h("p", { class: "clipnb-note" },
      `${plural(pictures.length, "image")} of ${name}, sampled at random; the numbers and the curve are over all ${total} labelled images ` +
      `and ${num_classes} classes. Point at an image, or tab to it, for its guesses.`));

  function update() {
    const k = model.get("k");
    control.set(k, `K = ${k}`);
    const lit = pictures.filter(({ rank }) => rank && rank <= k).length;
    results.set([
      ["recall", `Recall@${k}, whole set`, recall[k - 1], percent(recall[k - 1])],
      ["chance", "chance", chance[k - 1], percent(chance[k - 1])],
      ["lit", "images lit below", lit, `${lit} / ${pictures.length}`],
    ]);
    const hits = Math.round(recall[k - 1] * total);
    shown.set(`Recall@${k} = images with their label among the first ${k} / all labelled images = ${hits} / ${total} = ${percent(recall[k - 1])}`,
      `chance = K / C = ${k} / ${num_classes} = ${percent(chance[k - 1])}`);
    dot.setAttribute("cx", curve.x(k));
    dot.setAttribute("cy", curve.y(recall[k - 1]));
    cards.forEach((card, i) => {
      const { rank } = pictures[i];
      const hit = rank > 0 && rank <= k;
      card.toggleAttribute("data-dim", !hit);
      card.setAttribute("data-tone", hit ? "yes" : "");
      card.setAttribute("aria-pressed", i === picked);
      card.querySelector(".clipnb-mark").textContent = hit ? `✓ guess ${rank}` : `not in top\u00a0${k}`;
    });
    if (pictures.length) {
      const { name: truth, guesses } = pictures[picked];
      details.replaceChildren(
        h("p", {}, `Guesses for this image of `, h("strong", {}, truth), ":"),
        h("ol", {}, guesses.slice(0, k).map((guess) =>
          h("li", { "data-hit": guess.hit }, `${guess.name} ${guess.hit ? "✓ " : ""}`,
            h("span", { class: "clipnb-similarity" }, fixed(guess.similarity, 3))))));
    }
    root.dataset.state = `k=${k};picture=${picked}`;
  }
  return start({ model, el }, root, ["k"], update);
}
export default { render };

function render({ model, el }) {
  const { images, spreads, ks, mean, hopeless, worlds } = model.get("content");
  const classes = worlds[0][0].right.length;
  const sliders = [
    ["images", slider("Images of each class", { min: 0, max: images.length - 1 }, (images) => put(model, { images }))],
    ["spread", slider("Spread of the true accuracies", { min: 0, max: spreads.length - 1 }, (spread) => put(model, { spread }))],
    ["k", slider("k, the number of worst classes", { min: 0, max: ks.length - 1 }, (k) => put(model, { k }))],
  ];
  const control = Object.fromEntries(sliders);
  const results = numbers();
  const shown = formulas();
  const curve = chart("Measured accuracy of every class, worst first, and its true accuracy", {
    xRange: [1, classes], xTicks: [1, classes / 2, classes], xLabel: "classes, lowest measured accuracy first", yLabel: "accuracy",
  });
  const truths = svg("g", { class: "truth" });
  const stairs = svg("path", { class: "line" });
  curve.node.append(truths, stairs);
  const bars = h("ul", { class: "clipnb-bars" });
  const root = figure("luck", "Live figure: bad or unlucky?",
    h("div", { class: "clipnb-controls" }, sliders.map(([, { node }]) => node)),
    h("div", { class: "clipnb-columns" }, h("div", {}, curve.node,
      h("p", { class: "clipnb-legend" }, h("span", {}, h("i", { class: "measured" }), "measured"), h("span", {}, h("i", { class: "true" }), "true"))),
      h("div", {}, results.node, shown.node)),
    h("p", { class: "clipnb-title" }, "“The accuracy of the k worst classes”: estimates, and the truth that each asks for (vertical line)"),
    bars,
    h("p", { class: "clipnb-note" },
      `Simulated, so that the truth is known: ${classes} classes, ${percent(mean)} right on average. With a spread, ${hopeless} of them ` +
      "have a true accuracy of 0\u00a0%. Without one, all classes are equally good. The lines across the bars are 95\u00a0% intervals; where only a range " +
      "can be given, it stands without a bar. The naive estimate has no interval, because its error goes one way."));

  const questions = {
    naive: ["naive", "measured on the images that chose the classes"],
    truly_worst: ["truly worst", "the k classes that are worst in truth"],
    listed: ["listed", "the k classes that did worst on these images"],
    split_half: ["split half", "k classes chosen on half of the images"],
  };

  function update() {
    const [at, spread, depth] = ["images", "spread", "k"].map((name) => model.get(name));
    const n = images[at], k = ks[depth];
    const { right, truth, scores } = worlds[at][spread];
    control.images.set(at, plural(n, "image"));
    control.spread.set(spread, spreads[spread] ? `±${fixed(100 * spreads[spread], 0)} points` : "none");
    control.k.set(depth, String(k));

    const zero = right.filter((count) => count === 0).length;
    const bad = right.filter((count, c) => count === 0 && truth[c] === 0).length;
    const overall = right.reduce((a, b) => a + b, 0) / (n * classes);
    const expected = classes * (1 - overall) ** n;
    results.set([
      ["zero", "classes at 0\u00a0% on these images", zero, String(zero)],
      ["bad", "of them truly at 0\u00a0%", bad, String(bad)],
      ["unlucky", "of them unlucky", zero - bad, String(zero - bad)],
    ]);
    shown.set(`Classes at 0\u00a0% to expect if all were equally good: ${classes} × (1 − ${fixed(overall, 3)})^${n} = ${fixed(expected, 1)}`,
      `Naive worst-${k} = (${right.slice(0, 3).map((count) => `${count}/${n}`).join(" + ")} + …) / ${k} = ${percent(scores[depth].naive[0])}`);

    truths.replaceChildren(...truth.map((value, c) => svg("circle", { cx: curve.x(c + 1), cy: curve.y(value), r: 1.6 })));
    stairs.setAttribute("d", path(right.flatMap((count, c) =>
      [[curve.x(c + 0.5), curve.y(count / n)], [curve.x(c + 1.5), curve.y(count / n)]])));
    bars.replaceChildren(...Object.entries(questions).map(([name, [label, question]]) => {
      const [value, low, high] = scores[depth][name];
      return bar({
        name, label, note: `${question}; truth ${percent(scores[depth].truths[name])}`,
        value: value ?? "", width: value ?? 0, text: scoreText([value, low, high]),
        mark: scores[depth].truths[name], interval: low === null ? null : [low, high],
      });
    }));
    root.dataset.state = `images=${n};spread=${spreads[spread]};k=${k}`;
  }
  return start({ model, el }, root, ["images", "spread", "k"], update);
}
export default { render };

function render({ model, el }) {
  const { n, common_accuracy, rare } = model.get("content");
  const nearest = (x) => Math.floor(x + 0.5); // as ParadoxExplorer.numbers does
  const share = slider(`Share of ${rare} images`, { min: 0.5, max: 50, step: 0.5 },
    (value) => put(model, { rare_share: value / 100 }));
  const recall = slider(`Recall on ${rare}`, { min: 0, max: 100 }, (value) => put(model, { rare_recall: value / 100 }));
  const parts = ["common-right", "common-wrong", "rare-found", "rare-missed"];
  const stack = h("div", { class: "clipnb-stack", role: "img" }, parts.map((part) => h("i", { "data-part": part })));
  const legend = h("p", { class: "clipnb-legend" });
  const bars = h("ul", { class: "clipnb-bars", "aria-live": "polite" });
  const shown = formulas();
  const root = figure("paradox", "Live figure: the accuracy paradox",
    h("div", { class: "clipnb-controls" }, share.node, recall.node),
    h("p", { class: "clipnb-note" }, `All ${n} images, to scale`), stack, legend, bars, shown.node,
    h("p", { class: "clipnb-note" },
      `“Never predicting ${rare}” is the accuracy of a model that always predicts another class and gets all others right. ` +
      "Mean per-class accuracy gives the rare class and all the others the same weight. Counts are whole images."));

  function update() {
    const [s, r] = [model.get("rare_share"), model.get("rare_recall")];
    const rares = Math.max(1, nearest(n * s));
    const found = nearest(rares * r);
    const common = n - rares;
    const right = nearest(common * common_accuracy);
    const baseline = common / n;
    share.set(100 * s, percent(s));
    recall.set(100 * r, percent(r));

    const amounts = [right, common - right, found, rares - found];
    const words = ["other classes, right", "other classes, wrong", `${rare}, found`, `${rare}, missed`];
    [...stack.children].forEach((part, p) => part.setAttribute("style", `width:${(100 * amounts[p]) / n}%`));
    stack.setAttribute("aria-label", words.map((word, p) => `${word}: ${amounts[p]}`).join("; "));
    legend.replaceChildren(...parts.map((part, p) => h("span", {}, h("i", { "data-part": part }), `${words[p]}: ${amounts[p]}`)));

    const rows = [
      ["accuracy", "Overall accuracy", `${found + right} of ${n}`, (found + right) / n, null],
      ["baseline", `Never predicting ${rare}`, `${common} of ${n}`, baseline, null],
      ["rare_recall", `Recall on ${rare}`, `${found} of ${rares}`, found / rares, "no"],
      ["macro", "Mean per-class accuracy", "mean of the two", (found / rares + right / common) / 2, null],
    ];
    bars.replaceChildren(...rows.map(([name, label, note, value, tone]) =>
      bar({ name, label, note, value, text: percent(value), tone })));
    shown.set(
      `Overall accuracy = (${found} + ${right}) / ${n} = ${percent((found + right) / n)}`,
      `Mean per-class accuracy = (${found} / ${rares} + ${right} / ${common}) / 2 = ` +
        `(${percent(found / rares)} + ${percent(right / common)}) / 2 = ${percent((found / rares + right / common) / 2)}`);
    root.dataset.state = `share=${s};recall=${r}`;
  }
  return start({ model, el }, root, ["rare_share", "rare_recall"], update);
}
export default { render };

function render({ model, el }) {
  const { images, prompts, models } = model.get("content");
  const runs = choice("Model", models.map(({ name }, run) => [run, name]), (run) => put(model, { run: Number(run) }));
  const texts = choice("Prompts", prompts.map((name, position) => [position, name]),
    (position) => put(model, { prompts: Number(position) }));
  const results = numbers();
  const total = models[0].runs[0].counts.reduce((a, b) => a + b, 0);
  const axes = chart("Accuracy of every class, worst first", {
    xRange: [0, total], xTicks: [0, total / 4, total / 2, (3 * total) / 4, total], xLabel: "classes, worst first", yLabel: "accuracy of the class",
  });
  const area = svg("path", { class: "area" });
  axes.node.append(area);
  const bars = h("ul", { class: "clipnb-bars" });
  const root = figure("tails", "Live figure: all classes of a published run",
    h("div", { class: "clipnb-controls" }, runs.node, texts.node), results.node,
    h("div", { class: "clipnb-columns" }, axes.node, h("div", {}, h("p", { class: "clipnb-title" }, "The ten worst classes"), bars)),
    h("p", { class: "clipnb-note" },
      "Worst ten: the naive accuracy. Of classes with equally many right images, the first in the alphabet are named."));

  function update() {
    const { counts, worst } = models[model.get("run")].runs[model.get("prompts")];
    let [seen, right, lowest, taken] = [0, 0, 0, 0];
    const points = [[axes.x(0), axes.y(0)]];
    counts.forEach((count, score) => {
      points.push([axes.x(seen), axes.y(score / images)], [axes.x(seen + count), axes.y(score / images)]);
      const part = Math.min(count, 10 - taken);
      [seen, right, lowest, taken] = [seen + count, right + count * score, lowest + part * score, taken + part];
    });
    points.push([axes.x(seen), axes.y(0)]);
    area.setAttribute("d", `${path(points)}Z`);
    runs.set(model.get("run"));
    texts.set(model.get("prompts"));
    const [accuracy, worst10] = [right / (images * seen), lowest / (images * taken)];
    results.set([
      ["accuracy", "accuracy", accuracy, percent(accuracy)],
      ["worst_10", "worst ten", worst10, percent(worst10)],
      ["classes_at_zero", "classes at 0\u00a0%", counts[0], String(counts[0])],
    ]);
    bars.replaceChildren(...worst.map(([name, score]) => bar({
      name: "worst", label: name, note: `${score} of ${images}`, value: score / images, text: percent(score / images),
    })));
    root.dataset.state = `run=${model.get("run")};prompts=${model.get("prompts")}`;
  }
  return start({ model, el }, root, ["run", "prompts"], update);
}
export default { render };

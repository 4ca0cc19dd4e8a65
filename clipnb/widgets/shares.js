function render({ model, el }) {
  const { steps } = model.get("content");
  const control = slider("Share of the candidate classes that occur", { min: 0, max: steps.length - 1 },
    (position) => put(model, { position }));
  const results = numbers();
  const bars = h("ul", { class: "clipnb-bars", "aria-live": "polite" });
  const root = figure("shares", "Live figure: a correction as its assumption breaks",
    h("div", { class: "clipnb-controls" }, control.node), results.node, bars,
    h("p", { class: "clipnb-note" },
      "Accuracy of each method on the images of the classes that occur; all classes remain candidates. " +
      "The line in each bar is the bare name. Orange: below it."));

  function update() {
    const { share, classes, images, rows } = steps[model.get("position")];
    const bare = rows.find(({ method }) => method === "bare").accuracy;
    control.set(model.get("position"), `${fixed(100 * share, 0)}\u00a0%`);
    results.set([
      ["classes", "classes that occur", classes, String(classes)],
      ["images", "images", images, String(images)],
      ["bare", "accuracy of the bare name", bare, percent(bare)],
    ]);
    bars.replaceChildren(...rows.filter(({ method }) => method !== "bare").map(({ method, accuracy, low, high, zero }) => bar({
      name: method, label: method, value: accuracy, text: percent(accuracy), mark: bare,
      note: `interval ${fixed(100 * low, 1)} to ${fixed(100 * high, 1)}\u00a0%; classes at 0\u00a0%: ${zero}`,
      tone: accuracy < bare ? "no" : null,
    })));
    root.dataset.state = `share=${share}`;
  }
  return start({ model, el }, root, ["position"], update);
}
export default { render };

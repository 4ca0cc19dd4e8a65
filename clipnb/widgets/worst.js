function render({ model, el }) {
  const { rows, name } = model.get("content");
  const control = slider("Worst classes shown", { min: 1, max: rows.length }, (shown) => put(model, { shown }));
  const results = numbers();
  const strips = h("div", { class: "clipnb-columns" });
  const root = figure("worst", "Live figure: the worst classes",
    h("div", { class: "clipnb-controls" }, control.node), results.node, strips,
    h("p", { class: "clipnb-note" },
      `Of each class of ${name} the pictures with the lowest margin: similarity to the right class less that to its best rival. ` +
      "Below zero, the picture is read as the rival."));

  function update() {
    const shown = model.get("shown");
    const mean = rows[shown - 1].mean_so_far;
    control.set(shown, String(shown));
    results.set([["mean", `mean accuracy of ${shown === 1 ? "the worst class" : `these ${shown} classes`}`, mean, percent(mean)]]);
    strips.replaceChildren(...rows.slice(0, shown).map((row) =>
      h("div", { class: "clipnb-group" },
        h("p", { class: "clipnb-title" }, `${row.name}: ${percent(row.accuracy)} (${row.right} of ${row.count} right)`),
        h("ul", { class: "clipnb-pictures" }, row.pictures.map((item) =>
          picture({ ...item, name: item.right ? `✓ ${item.guess}` : `said ${item.guess}`, alt: `a picture of ${row.name}` },
            `margin ${signed(item.margin, 3)}`, item.right ? "yes" : "no"))))));
    root.dataset.state = `shown=${shown}`;
  }
  return start({ model, el }, root, ["shown"], update);
}
export default { render };

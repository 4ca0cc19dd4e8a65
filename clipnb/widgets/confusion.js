function render({ model, el }) {
  const { names, counts, actual_totals, predicted_totals, precision, recall, pictures, name } = model.get("content");
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const control = slider("Classes shown", { min: 2, max: names.length }, (shown) => put(model, { shown }));
  const results = numbers();
  const shown = formulas();
  const table = h("table", { class: "clipnb-matrix" });
  const opened = h("div", { "aria-live": "polite" });

  const root = figure("confusion", "Live figure: confusion matrix",
    h("div", { class: "clipnb-controls" }, control.node),
    results.node,
    shown.node,
    h("div", { class: "clipnb-columns" }, h("div", { class: "clipnb-wide" }, table), opened),
    h("p", { class: "clipnb-note" },
      `Rows are the actual classes, columns the predicted ones; “other” is every class of ${name} not shown. ` +
      "Precision and recall are over the whole set. Press a cell to see its images; the arrow keys move between cells."));

  /** Counts with a last row and column "other", which shrink as more classes are shown; other/other is not counted. */
  function matrix(m) {
    const inner = counts.slice(0, m).map((row) => row.slice(0, m));
    const rows = inner.map((row, i) => [...row, actual_totals[i] - sum(row)]);
    const others = inner.map((_, j) => predicted_totals[j] - sum(inner.map((row) => row[j])));
    return [...rows, [...others, null]];
  }

  function cell(count, i, j, rowTotal, m, at, labels) {
    const pressed = i === at[0] && j === at[1];
    return h("button", {
      type: "button",
      "data-cell": `${i},${j}`,
      "data-kind": i === j ? "right" : "wrong",
      "aria-pressed": pressed,
      "aria-label": `actual ${labels[i]}, predicted ${labels[j]}: ${plural(count, "image")}`,
      tabindex: pressed ? 0 : -1,
      style: `--share:${rowTotal ? count / rowTotal : 0}`,
      on: {
        click: () => put(model, { cell: [i, j] }),
        keydown: (event) => walk(event, i, j, m),
      },
    }, count ? String(count) : "·");
  }

  function walk(event, i, j, m) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [row, column] = [i + step[0], j + step[1]];
    if (row < 0 || column < 0 || row > m || column > m || (row === m && column === m)) return;
    put(model, { cell: [row, column] });
  }

  function update() {
    const m = model.get("shown");
    const labels = [...names.slice(0, m), "other"];
    const rows = matrix(m);
    let [i, j] = model.get("cell").map((position) => Math.min(position, m));
    if (i === m && j === m) i = j = 0;
    const chosen = i < m ? i : j;

    control.set(m, String(m));
    results.set([
      ["precision", `precision of ${labels[chosen]}`, precision[chosen], percent(precision[chosen])],
      ["recall", `recall of ${labels[chosen]}`, recall[chosen], percent(recall[chosen])],
      ["count", "in the open cell", rows[i][j], String(rows[i][j])],
    ]);

    const right = rows[chosen][chosen];
    shown.set(
      `Precision of ${labels[chosen]} = ${right} / ${predicted_totals[chosen]} predicted as it = ${percent(precision[chosen])}`,
      `Recall of ${labels[chosen]} = ${right} / ${actual_totals[chosen]} images of it = ${percent(recall[chosen])}`);

    const hadFocus = table.contains(document.activeElement);
    table.replaceChildren(
      h("caption", {}, "actual (rows) × predicted (columns)"),
      h("thead", {}, h("tr", {}, h("td"), labels.map((label, column) =>
        h("th", { scope: "col", title: label, "data-chosen": column === j }, h("span", {}, label))))),
      h("tbody", {}, rows.map((row, r) => {
        const rowTotal = r < m ? actual_totals[r] : sum(row);
        return h("tr", {},
          h("th", { scope: "row", title: labels[r], "data-chosen": r === i }, h("span", {}, labels[r])),
          row.map((count, c) => h("td", {}, count === null ? [] : cell(count, r, c, rowTotal, m, [i, j], labels))));
      })));
    if (hadFocus) table.querySelector(`[data-cell="${i},${j}"]`).focus();

    const inCell = pictures.filter(({ actual, predicted }) => Math.min(actual, m) === i && Math.min(predicted, m) === j);
    const more = inCell.length < rows[i][j] ? `, ${inCell.length} of them shown` : "";
    opened.replaceChildren(
      h("p", { class: "clipnb-title" }, `${labels[i]}, predicted ${labels[j]}: ${plural(rows[i][j], "image")}${more}`),
      h("ul", { class: "clipnb-pictures" }, inCell.map((item) =>
        item.name === item.guess ? picture(item, "✓ right", "yes") : picture(item, `✗ predicted ${item.guess}`, "no"))));
    root.dataset.state = `shown=${m};cell=${i},${j}`;
  }
  return start({ model, el }, root, ["shown", "cell"], update);
}
export default { render };

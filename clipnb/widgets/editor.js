function render({ model, el }) {
  const { names, counts: initial, max_count, max_factor } = model.get("content");
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const column = (rows, j) => rows.map((row) => row[j]);
  const share = (part, total) => (total ? part / total : null);
  let at = [0, 0]; // the row and the column that the formulas are about

  const mix = slider(`How many times as common is ${names[0]}?`, { min: 1, max: max_factor }, (factor) => put(model, { factor }));
  const edit = (i, j, text) => {
    const count = Number(text);
    const valid = text !== "" && Number.isInteger(count) && count >= 0 && count <= max_count;
    inputs[i][j].setAttribute("aria-invalid", !valid);
    if (valid) put(model, { counts: model.get("counts").map((row, r) => row.map((old, c) => (r === i && c === j ? count : old))) });
  };
  const inputs = names.map((actual, i) => names.map((predicted, j) => h("input", {
    type: "number", min: 0, max: max_count, inputmode: "numeric", "data-cell": `${i},${j}`,
    "aria-label": `actual ${actual}, predicted ${predicted}`,
    on: { input: ({ target }) => edit(i, j, target.value), focus: () => look(i, j) },
  })));
  const heads = names.map((name, j) => h("th", { scope: "col", on: { pointerenter: () => look(at[0], j) } }, name));
  const rowHeads = names.map((name) => h("th", { scope: "row" }, name));
  const recalls = names.map(() => h("td", {}));
  const precisions = names.map((_, j) => h("td", { on: { pointerenter: () => look(at[0], j) } }));
  const table = h("table", { class: "clipnb-editor" },
    h("caption", {}, "actual (rows) × predicted (columns); type in a cell"),
    h("thead", {}, h("tr", {}, h("td"), heads, h("th", { scope: "col", class: "clipnb-label" }, "recall"))),
    h("tbody", {}, names.map((_, i) => h("tr", { on: { pointerenter: () => look(i, at[1]) } }, rowHeads[i],
      names.map((_, j) => h("td", { on: { pointerenter: () => look(i, j) } }, inputs[i][j])), recalls[i]))),
    h("tfoot", {}, h("tr", {}, h("th", { scope: "row", class: "clipnb-label" }, "precision"), precisions, h("td"))));
  const results = numbers();
  const shown = formulas();
  const root = figure("editor", "Live figure: change a confusion matrix",
    h("div", { class: "clipnb-controls" }, mix.node),
    h("div", { class: "clipnb-columns" },
      h("div", { class: "clipnb-wide" }, table, h("p", { class: "clipnb-options" },
        button("Transpose", () => put(model, { counts: names.map((_, j) => column(model.get("counts"), j)) })),
        button("Start again", () => put(model, { counts: initial, factor: 1 })))),
      h("div", {}, results.node, shown.node)),
    h("p", { class: "clipnb-note" },
      "Point at a row for its recall and at a column for its precision, or move through the cells by keyboard. The slider multiplies the first row: the model " +
      "treats each image as before, and only the mix of classes changes. Transpose shows what a table with the predicted classes in its rows would say."));

  function look(i, j) {
    at = [i, j];
    update();
  }

  function update() {
    const counts = model.get("counts"), factor = model.get("factor");
    const rows = counts.map((row, i) => row.map((count) => count * (i ? 1 : factor)));
    const totals = rows.map(sum), total = sum(totals), right = rows.map((row, i) => row[i]);
    const recall = right.map((count, i) => share(count, totals[i]));
    const precision = right.map((count, j) => share(count, sum(column(rows, j))));
    const defined = recall.filter((value) => value !== null);
    const [micro, baseline, macro] = [share(sum(right), total), share(Math.max(...totals), total), share(sum(defined), defined.length)];
    const most = totals.indexOf(Math.max(...totals));
    const [i, j] = at;

    mix.set(factor, factor === 1 ? "as counted" : `${factor} times`);
    inputs.forEach((row, r) => row.forEach((input, c) => {
      if (Number(input.value) !== counts[r][c] || input.value === "") {
        if (input !== document.activeElement || input.getAttribute("aria-invalid") !== "true") input.value = counts[r][c];
      }
      input.toggleAttribute("data-row", r === i);
      input.toggleAttribute("data-column", c === j);
      input.parentElement.dataset.kind = r === c ? "right" : "wrong";
    }));
    rowHeads.forEach((head, r) => (head.textContent = names[r] + (r === 0 && factor > 1 ? ` × ${factor}` : "")));
    recall.forEach((value, r) => Object.assign(recalls[r], { textContent: percent(value) }).toggleAttribute("data-chosen", r === i));
    precision.forEach((value, c) => Object.assign(precisions[c], { textContent: percent(value) }).toggleAttribute("data-chosen", c === j));
    results.set([
      ["micro", "micro average (accuracy)", micro, percent(micro)],
      ["macro", "macro average (mean recall)", macro, percent(macro)],
      ["baseline", `always predicting ${names[most]}`, baseline, percent(baseline)],
      ["recall", `recall of ${names[i]}`, recall[i], percent(recall[i])],
      ["precision", `precision of ${names[j]}`, precision[j], percent(precision[j])],
    ]);
    shown.set(
      `Recall of ${names[i]} = ${right[i]} / (${rows[i].join(" + ")}) = ${percent(recall[i])}`,
      `Precision of ${names[j]} = ${right[j]} / (${column(rows, j).join(" + ")}) = ${percent(precision[j])}`,
      `Micro = (${right.join(" + ")}) / ${total} = ${percent(micro)}`,
      `Macro = (${recall.map(percent).join(" + ")}) / ${defined.length} = ${percent(macro)}`);
    root.dataset.state = `factor=${factor};counts=${counts.join(";")};at=${at}`;
  }
  return start({ model, el }, root, ["counts", "factor"], update);
}
export default { render };

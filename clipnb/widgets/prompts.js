function render({ model, el }) {
  const { prompts, temperatures, top, mean_accuracy, ensemble } = model.get("content");
  const scores = prompts.map(({ score }) => score);
  const control = slider("Temperature of the softmax", { min: 0, max: temperatures.length - 1 },
    (position) => put(model, { temperature: temperatures[position] }));
  const results = numbers();
  const shown = formulas();
  const bars = h("ul", { class: "clipnb-bars" });
  const root = figure("prompts", "Live figure: weights of the prompts",
    h("div", { class: "clipnb-controls" }, control.node), results.node, shown.node, bars,
    h("p", { class: "clipnb-note" },
      "Weight of a prompt: softmax of its score divided by the temperature; the line in each bar is the uniform weight. " +
      "Effective number of prompts: 1 / Σ weight². Cold: one prompt decides. Hot: all count the same."));

  function softmax(temperature) {
    const powers = scores.map((score) => Math.exp((score - scores[0]) / temperature)); // scores[0] is the largest
    const total = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / total);
  }

  function update() {
    const temperature = model.get("temperature");
    const weights = softmax(temperature);
    const position = temperatures.reduce((best, t, i) =>
      (Math.abs(Math.log(t / temperature)) < Math.abs(Math.log(temperatures[best] / temperature)) ? i : best), 0);
    const effective = 1 / weights.reduce((total, weight) => total + weight * weight, 0);
    control.set(position, String(temperature));
    const rows = [["effective", `effective number of ${prompts.length} prompts`, effective, fixed(effective, 2)]];
    if (ensemble !== null) {
      rows.push(["ensemble", "accuracy of the ensemble with these weights", ensemble.by_step[position][0], scoreText(ensemble.by_step[position])],
        ["uniform", "accuracy of the uniform ensemble", ensemble.uniform[0], scoreText(ensemble.uniform)]);
    } else if (mean_accuracy !== null) {
      const weighted = weights.reduce((total, weight, p) => total + weight * prompts[p].accuracy, 0);
      rows.push(["weighted_accuracy", "mean single-prompt accuracy, these weights", weighted, percent(weighted)],
        ["mean_accuracy", "mean single-prompt accuracy, uniform", mean_accuracy, percent(mean_accuracy)]);
    }
    results.set(rows);
    const [highest, lowest] = [scores[0], scores[scores.length - 1]];
    const gap = (highest - lowest) / temperature;
    const subtracted = lowest < 0 ? `(${signed(lowest, 4)})` : fixed(lowest, 4);
    shown.set(`Largest weight / smallest weight = exp((${signed(highest, 4)} − ${subtracted}) / ${temperature}) = ` +
      (gap < 10 ? fixed(Math.exp(gap), 2) : `about 10^${fixed(gap / Math.LN10, 0)}`),
      `Effective number of prompts = 1 / (${weights.slice(0, 3).map((weight) => `${fixed(weight, 3)}²`).join(" + ")}${prompts.length > 3 ? " + …" : ""}) = ${fixed(effective, 2)}`);
    const note = ({ score, accuracy }) => `score ${signed(score, 4)}${accuracy === null ? "" : `, accuracy ${percent(accuracy)}`}`;
    const scale = Math.max(weights[0], 2 / prompts.length);
    const rest = weights.slice(top).reduce((a, b) => a + b, 0);
    bars.replaceChildren(...prompts.slice(0, top).map((prompt, p) => bar({
      name: "weight", label: prompt.text, note: note(prompt), value: weights[p], width: weights[p] / scale,
      text: percent(weights[p]), mark: 1 / prompts.length / scale,
    })));
    if (prompts.length > top)
      bars.append(h("li", { "data-name": "rest", "data-value": rest }, `the other ${prompts.length - top} prompts together`, h("strong", {}, percent(rest))));
    root.dataset.state = `temperature=${temperature}`;
  }
  return start({ model, el }, root, ["temperature"], update);
}
export default { render };

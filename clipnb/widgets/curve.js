function render({ model, el }) {
  const { question, classes, places, curve, zero, mean } = model.get("content");
  const names = ["the worst class", "the class a quarter of the way up", "the class in the middle", "the class three quarters of the way up", "the best class"];
  const at = names.map((_, i) => 1 + (i / (names.length - 1)) * (classes - 1));
  const setPoint = (i, value) => put(model, { guess: model.get("guess").map((old, j) => (j === i ? value : old)) });
  const sliders = names.map((name, i) => slider(`Accuracy of ${name}`, { min: 0, max: 100 }, (value) => setPoint(i, value / 100)));
  const reveal = button("Show the measured curve", () => put(model, { revealed: true }));
  const results = numbers();
  const axes = chart("Accuracy of the classes, worst first: your guess, and the measured curve once it is shown", {
    xRange: [1, classes], xTicks: [1, classes], xLabel: "classes, worst first", yLabel: "accuracy",
  });
  const guessed = svg("path", { class: "guess" }), handles = names.map(() => svg("circle", { class: "handle", r: 6 }));
  const measured = svg("path", { class: "line" });
  axes.node.append(measured, guessed, ...handles);
  let held = 0;
  dragged(axes.node, (x, y, pressed) => {
    const distance = (i) => Math.abs(axes.x(at[i]) - x);
    if (pressed) held = names.reduce((best, _, i) => (distance(i) < distance(best) ? i : best), 0);
    const value = (axes.y(0) - y) / (axes.y(0) - axes.y(1));
    setPoint(held, Math.round(100 * Math.min(1, Math.max(0, value))) / 100);
  });
  const root = figure("curve", `Live figure: ${question}`,
    h("p", { class: "clipnb-title" }, question),
    h("div", { class: "clipnb-columns" },
      h("div", {}, axes.node, h("p", { class: "clipnb-legend" }, h("span", {}, h("i", { class: "true" }), "your guess"), h("span", {}, h("i", { class: "measured" }), "measured"))),
      h("div", { class: "clipnb-guess" }, sliders.map(({ node }) => node), reveal)),
    results.node,
    h("p", { class: "clipnb-note" }, "Drag the points or use the sliders, then show the measured curve. Your guess stays."));

  /** The guess at a place from 1 to `classes`, on straight lines between the points. */
  function guessAt(guess, place) {
    const position = ((place - 1) / (classes - 1)) * (names.length - 1);
    const i = Math.min(Math.floor(position), names.length - 2);
    return guess[i] + (position - i) * (guess[i + 1] - guess[i]);
  }

  function update() {
    const [guess, revealed] = [model.get("guess"), model.get("revealed")];
    sliders.forEach(({ set }, i) => set(Math.round(100 * guess[i]), `${Math.round(100 * guess[i])}\u00a0%`));
    reveal.disabled = revealed;
    guessed.setAttribute("d", path(guess.map((value, i) => [axes.x(at[i]), axes.y(value)])));
    handles.forEach((handle, i) => {
      handle.setAttribute("cx", axes.x(at[i]));
      handle.setAttribute("cy", axes.y(guess[i]));
    });
    measured.setAttribute("d", revealed ? path(curve.map((value, i) => [axes.x(places[i] + 1), axes.y(value)])) : "");
    const average = Array.from({ length: classes }, (_, c) => guessAt(guess, c + 1)).reduce((a, b) => a + b, 0) / classes;
    const gap = curve.reduce((total, value, i) => total + Math.abs(value - guessAt(guess, places[i] + 1)), 0) / curve.length;
    results.set([["guess_mean", "mean of your curve", average, percent(average)], ...(revealed ? [
      ["mean", "measured mean", mean, percent(mean)],
      ["gap", "mean distance of the curves, in points", gap, fixed(100 * gap, 1)],
      ["zero", "classes at 0\u00a0%", zero, `${zero} of ${classes}`],
    ] : [])]);
    root.dataset.state = `guess=${guess};revealed=${revealed}`;
  }
  return start({ model, el }, root, ["guess", "revealed"], update);
}
export default { render };

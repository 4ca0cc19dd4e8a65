function render({ model, el }) {
  const { question, answer: [answer, low, high], chance } = model.get("content");
  const control = slider("Your guess", { min: 0, max: 100 }, (value) => put(model, { guess: value / 100 }));
  const reveal = button("Show the answer", () => put(model, { revealed: true }));
  const results = numbers();
  const bars = h("ul", { class: "clipnb-bars" });
  const root = figure("number", `Live figure: ${question}`,
    h("p", { class: "clipnb-title" }, question),
    h("div", { class: "clipnb-guess" }, control.node, reveal), results.node, bars,
    h("p", { class: "clipnb-note" }, "Guess first: what you expected is part of what you learn. The guess stays after the answer is shown."));

  function update() {
    const [guess, revealed] = [model.get("guess"), model.get("revealed")];
    control.set(Math.round(100 * guess), `${Math.round(100 * guess)}\u00a0%`);
    reveal.disabled = revealed;
    results.set(revealed ? [
      ["guess", "your guess", guess, percent(guess)],
      ["answer", "the answer", answer, scoreText([answer, low, high])],
      ["difference", "answer minus guess, in points", answer - guess, signed(100 * (answer - guess), 1)],
    ] : [["guess", "your guess", guess, percent(guess)]]);
    const rows = [bar({ name: "guess", label: "your guess", note: "", value: guess, text: percent(guess), tone: "no" })];
    if (revealed) {
      rows.push(bar({ name: "answer", label: "the answer", note: "", value: answer, text: percent(answer), interval: low === null ? null : [low, high] }));
      if (chance !== null) rows.push(bar({ name: "chance", label: "chance or baseline", note: "", value: chance, text: percent(chance) }));
    }
    bars.replaceChildren(...rows);
    root.dataset.state = `guess=${guess};revealed=${revealed}`;
  }
  return start({ model, el }, root, ["guess", "revealed"], update);
}
export default { render };

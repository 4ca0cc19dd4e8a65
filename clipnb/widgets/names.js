function render({ model, el }) {
  const { rows } = model.get("content"); // nearest pairs first
  const shown = 12;
  const [lowest, highest] = [Math.floor(100 * rows[rows.length - 1][2]), Math.floor(100 * rows[0][2])];
  const control = slider("Cosine from which names collide", { min: lowest, max: highest },
    (value) => put(model, { threshold: value / 100 }));
  const list = `clipnb-names-${Math.random().toString(36).slice(2)}`;
  const input = h("input", { type: "text", list, on: { change: () => put(model, { name: input.value }) } });
  const lookup = h("label", { class: "clipnb-option" }, "Look up a name ", input,
    h("datalist", { id: list }, [...rows].map(([name]) => name).sort().map((value) => h("option", { value }))));
  const results = numbers();
  const answer = h("p", { class: "clipnb-note", "aria-live": "polite" });
  const bars = h("ul", { class: "clipnb-bars" });
  const root = figure("names", "Live figure: names that collide",
    h("div", { class: "clipnb-controls" }, control.node, lookup), results.node, answer, bars,
    h("p", { class: "clipnb-note" },
      "The cosine is that of the texts of two names. Near 1, the model can hardly tell the names apart, whatever an image shows."));

  function update() {
    const threshold = model.get("threshold");
    const above = rows.filter(([, , cosine]) => cosine >= threshold);
    control.set(Math.round(100 * threshold), fixed(threshold, 2));
    results.set([["colliding", `of ${plural(rows.length, "name")} collide`, above.length, String(above.length)]]);
    const wanted = model.get("name").trim().toLowerCase();
    const place = rows.findIndex(([name]) => name.toLowerCase() === wanted);
    input.value = model.get("name");
    answer.textContent = place < 0 ? `No class is called “${model.get("name")}”.` :
      `“${rows[place][0]}”: nearest is “${rows[place][1]}”, cosine ${fixed(rows[place][2], 3)}; ${
        rows.filter(([, , cosine]) => cosine > rows[place][2]).length} names have a nearer one.`;
    answer.dataset.name = "answer";
    const pairs = above.filter(([a, b], i) => !above.slice(0, i).some(([c, d]) => c === b && d === a));
    bars.replaceChildren(...pairs.slice(0, shown).map(([a, b, cosine]) =>
      bar({ name: "pair", label: `${a} / ${b}`, note: "", value: cosine, width: Math.max(cosine, 0), text: fixed(cosine, 3) })));
    if (pairs.length > shown) bars.append(h("li", {}, `and ${plural(pairs.length - shown, "further pair")}`));
    root.dataset.state = `threshold=${threshold};name=${model.get("name")}`;
  }
  return start({ model, el }, root, ["threshold", "name"], update);
}
export default { render };

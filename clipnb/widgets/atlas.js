function render({ model, el }) {
  const { name, names, classes, right, count, interval, margin, label_free, predicted, answers, orders, found, flagged_mean, mean, sheet, images } =
    model.get("content");
  const labelFree = "margin without labels";
  const highest = Math.max(...label_free) || 1;
  const positionOf = new Map(classes.map((c, position) => [c, position]));
  const imagesOf = (c) => [...images.keys()].filter((i) => images[i][0] === c);

  const control = slider("Flag the classes with the lowest margin without labels", { min: 1, max: classes.length }, (flagged) => put(model, { flagged }));
  const sort = choice("Sort by", Object.keys(orders).map((key) => [key, key]), (value) => put(model, { sort: value }));
  const labels = checkbox("Show what needs labels", (value) => put(model, { labels: value }));
  const results = numbers();
  const shown = formulas();
  const squares = classes.map((c, position) => h("button", {
    type: "button", class: "clipnb-square", "data-class": c,
    on: { click: () => put(model, { chosen: c }), keydown: (event) => walk(event, position) },
  }));
  const grid = h("div", { class: "clipnb-atlas", role: "group", "aria-label": `${classes.length} classes of ${name}; arrow keys move between them` });
  const details = h("div", { class: "clipnb-details", "aria-live": "polite" });
  const root = figure("atlas", `Live figure: the classes of ${name}`,
    h("div", { class: "clipnb-controls" }, control.node),
    h("p", { class: "clipnb-options" }, sort.node, labels.node),
    results.node, shown.node, grid, details,
    h("p", { class: "clipnb-note" },
      `Every square is a class of ${name}. With labels it is filled up to its accuracy, without them up to its ${labelFree} ` +
      "(the model's own predictions take the place of labels). A dashed square is empty: never right, or without labels never predicted. " +
      "A thick frame is a flag. Press a square for its images and the names that they got; the margin is the similarity to the right class less " +
      "that to its best rival, and below zero the image is taken for the rival."));
  let order = [];

  function walk(event, position) {
    const place = order.indexOf(position);
    const columns = squares.filter((square) => square.offsetTop === squares[order[0]].offsetTop).length;
    const step = { ArrowUp: -columns, ArrowDown: columns, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = order[place + step];
    if (next === undefined) return;
    put(model, { chosen: classes[next] });
    squares[next].focus();
  }

  function tile(i) {
    const { src, side, columns, rows } = sheet, [c, guess, value] = images[i];
    return h("li", { class: "clipnb-picture", "data-tone": c === guess ? "yes" : "no" },
      svg("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": `an image of the class “${names[c]}”`, class: "clipnb-tile" },
        svg("image", { href: src, width: side * columns, height: side * rows, x: -side * (i % columns), y: -side * Math.floor(i / columns) })),
      h("span", {}, c === guess ? `✓ ${names[guess]}` : `✗ ${names[guess]}`),
      h("span", { class: "clipnb-mark" }, `margin ${signed(value, 3)}`));
  }

  function describe(c) {
    const p = positionOf.get(c);
    const [low, high] = interval[p];
    const known = [`predicted ${predicted[p]} times`, `${labelFree} ${label_free[p] === null ? "undefined (never predicted)" : signed(label_free[p], 3)}`];
    if (!model.get("labels")) return [h("p", {}, h("strong", {}, names[c]), `: ${known.join("; ")}. Its images and its accuracy need labels.`)];
    const wrong = answers[p].map(([other, times]) => `${names[other]} (${times})`).join(", ") || "none";
    return [
      h("p", {}, h("strong", {}, names[c]), `: ${right[p]} of ${plural(count[p], "image")} right, ${percent(right[p] / count[p])} ` +
        `[${fixed(100 * low, 1)}, ${fixed(100 * high, 1)}]; margin ${signed(margin[p], 3)}; ${known.join("; ")}. Taken for: ${wrong}.`),
      h("ul", { class: "clipnb-pictures" }, imagesOf(c).map(tile)),
    ];
  }

  function update() {
    const [withLabels, key, flagged, chosen] = ["labels", "sort", "flagged", "chosen"].map((trait) => model.get(trait));
    const flags = new Set(orders[labelFree].slice(0, flagged));
    const open = positionOf.has(chosen) ? chosen : classes[orders[key][0]];
    control.set(flagged, `${flagged} of ${classes.length}`);
    sort.set(key);
    labels.set(withLabels);

    const never = predicted.filter((times) => times === 0).length;
    if (withLabels) {
      results.set([
        ["found", `flagged classes among the ${flagged} worst by accuracy`, found[flagged - 1], `${found[flagged - 1]} of ${flagged}`],
        ["flagged_mean", "mean accuracy of the flagged classes", flagged_mean[flagged - 1], percent(flagged_mean[flagged - 1])],
        ["mean", `mean accuracy of the ${classes.length} classes`, mean, percent(mean)],
      ]);
      shown.set(`Share of the flagged that are among the worst = ${found[flagged - 1]} / ${flagged} = ${percent(found[flagged - 1] / flagged)}; ` +
        `by chance ${flagged} / ${classes.length} = ${percent(flagged / classes.length)}`);
    } else {
      results.set([
        ["flagged", "classes flagged", flagged, `${flagged} of ${classes.length}`],
        ["never", "classes never predicted", never, String(never)],
      ]);
      shown.set("Which of them are bad? Guess first, then show what needs labels.");
    }

    const hadFocus = grid.contains(document.activeElement) && document.activeElement;
    if (order !== orders[key]) {
      order = orders[key];
      grid.replaceChildren(...order.map((position) => squares[position]));
      if (hadFocus) hadFocus.focus();
    }
    squares.forEach((square, p) => {
      const share = withLabels ? right[p] / count[p] : (label_free[p] ?? 0) / highest;
      const words = withLabels ? `${percent(share)} right` : label_free[p] === null ? "never predicted" : `${labelFree} ${signed(label_free[p], 3)}`;
      square.style.setProperty("--fill", `${100 * share}%`);
      square.toggleAttribute("data-empty", share === 0);
      square.toggleAttribute("data-flagged", flags.has(p));
      square.setAttribute("aria-label", `${names[classes[p]]}: ${words}${flags.has(p) ? ", flagged" : ""}`);
      square.title = names[classes[p]];
      square.setAttribute("aria-pressed", classes[p] === open);
      square.tabIndex = classes[p] === open ? 0 : -1;
    });
    details.replaceChildren(...describe(open));
    root.dataset.state = `labels=${withLabels};sort=${key};flagged=${flagged};chosen=${open}`;
  }
  return start({ model, el }, root, ["labels", "sort", "flagged", "chosen"], update);
}
export default { render };

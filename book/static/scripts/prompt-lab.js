// The prompt lab: other words for one bad class, and what they do to it and to all other classes on validation images.
(() => {
  "use strict";

  const { h, plural, signed, parts, painted, onPress, start } = clipnb.lab;
  const root = document.getElementById("prompt-lab"), part = parts(root);
  const Z = 1.959963984540054; // of a 95 % interval
  const TEXTS = 3, WORDS = 4; // random texts as clipnb.describe.random_words makes them: as many, as long
  const MAX_MOVED = 24; // images shown of those that moved
  const PAUSE = 200; // milliseconds without a key before a typed text is scored
  const number = new Intl.NumberFormat("en");

  let names, texts, classVectors, encode, validation, images;
  let test = null;
  const vectors = new Map(); // text -> its vector
  const tried = new Map(); // class -> texts tried on validation
  const tested = new Set(); // classes that were scored on test

  // ---- Numbers ----

  /** A set of images with, for each, the two classes most similar to it by bare names; ties go to the lower index. */
  async function compared(labels, packed) {
    const d = packed.length / labels.length, n = labels.length;
    const best = { first: new Int32Array(n), second: new Int32Array(n), high: new Float64Array(n), low: new Float64Array(n) };
    for (let i = 0; i < n; i++) {
      let first = -1, second = -1, high = -Infinity, low = -Infinity;
      for (let c = 0; c < names.length; c++) {
        const s = clipnb.similarity(packed, i, classVectors, c, d);
        if (s > high) [second, low, first, high] = [first, high, c, s];
        else if (s > low) [second, low] = [c, s];
      }
      [best.first[i], best.second[i], best.high[i], best.low[i]] = [first, second, high, low];
      if (i % 500 === 499) await painted();
    }
    return { labels, packed, d, n, ...best };
  }

  /** The interval of Agresti and Min (2005), as clipnb.intervals.paired_counts computes it. */
  function pairedCounts(onlyAfter, onlyBefore, n) {
    const more = onlyAfter + 0.5, fewer = onlyBefore + 0.5, total = n + 2;
    const centre = (more - fewer) / total;
    const reach = Z * Math.sqrt(((more + fewer) / total - centre ** 2) / total);
    return { value: (onlyAfter - onlyBefore) / n, low: Math.max(-1, centre - reach), high: Math.min(1, centre + reach) };
  }

  /** What changes on a set of images when class `c` gets the vector `words`. */
  function effect(set, c, words) {
    const all = { n: set.n, before: 0, after: 0, won: 0, lost: 0 }, own = { n: 0, before: 0, after: 0, won: 0, lost: 0 };
    const margins = { before: 0, after: 0 }, moved = [], net = new Map();
    for (let i = 0; i < set.n; i++) {
      const label = set.labels[i], before = set.first[i];
      const [rival, rivalValue] = before === c ? [set.second[i], set.low[i]] : [before, set.high[i]];
      const value = clipnb.similarity(set.packed, i, words, 0, set.d);
      const after = value > rivalValue || (value === rivalValue && c < rival) ? c : rival;
      const was = before === label, is = after === label;
      for (const count of label === c ? [all, own] : [all]) {
        count.before += was;
        count.after += is;
        count.won += is && !was;
        count.lost += was && !is;
      }
      if (label === c) {
        own.n++;
        margins.before += clipnb.similarity(set.packed, i, classVectors, c, set.d) - rivalValue;
        margins.after += value - rivalValue;
      }
      if (before !== after) moved.push({ i, label, before, after });
      if (was !== is && label !== c) net.set(label, (net.get(label) ?? 0) + is - was);
    }
    return {
      all: { ...all, change: pairedCounts(all.won, all.lost, all.n) },
      own: { ...own, change: pairedCounts(own.won, own.lost, own.n) },
      margin: { before: margins.before / own.n, after: margins.after / own.n },
      moved,
      net,
    };
  }

  // ---- The words ----

  const chosen = () => Number(part("class").value);

  /** The typed lines, with the class name put in. */
  const lines = () =>
    part("texts").value.split("\n").map((line) => line.replaceAll("{}", names[chosen()]).trim()).filter(Boolean);

  /** The renormalised mean of the texts' vectors. */
  async function wordsVector(list) {
    for (const text of list) if (!vectors.has(text)) vectors.set(text, (await encode([text]))[0]);
    const sum = new Float32Array(vectors.get(list[0]).length);
    for (const text of list) vectors.get(text).forEach((value, k) => { sum[k] += value; });
    const norm = Math.hypot(...sum);
    return sum.map((value) => value / norm);
  }

  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  const letters = (word) => Array.from(word, () => pick("abcdefghijklmnopqrstuvwxyz")).join("");

  function randomTexts(change) {
    const text = () => Array.from({ length: WORDS }, () => change(pick(texts.words))).join(" ");
    return Array.from({ length: TEXTS }, () => `{}, ${text()}`);
  }

  const fill = {
    bare: () => ["{}"],
    keywords: (name) => texts.keywords[name],
    descriptions: (name) => texts.descriptions[name],
    nameless: (name) => texts.nameless[name],
    words: () => randomTexts((word) => word),
    letters: () => randomTexts(letters),
  };

  // ---- What it did ----

  const points = ({ value, low, high }) =>
    `${signed(100 * value, 1)} points [${signed(100 * low, 1)}, ${signed(100 * high, 1)}]`;

  const tile = (name, label, text, values) =>
    h("div", {}, h("dt", {}, label),
      h("dd", { "data-name": name, ...Object.fromEntries(Object.entries(values).map(([key, value]) => [`data-${key}`, value])) }, text));

  function numbers({ all, own, margin }, name) {
    const percent = (count, n) => `${((100 * count) / n).toFixed(1)} %`;
    return [
      tile("own", `drawings of ${name} named right`, `${own.before} → ${own.after} of ${own.n}`, { before: own.before, after: own.after }),
      tile("own-change", `change of the accuracy of ${name}`, points(own.change), own.change),
      tile("margin", `margin of ${name}`, `${signed(margin.before, 3)} → ${signed(margin.after, 3)}`, margin),
      tile("all", "accuracy on all drawings", `${percent(all.before, all.n)} → ${percent(all.after, all.n)}`, { before: all.before, after: all.after }),
      tile("all-change", "change on all drawings", points(all.change), all.change),
    ];
  }

  function movedImage({ i, label, before, after }) {
    const mark = after === label ? "✓ now right" : before === label ? "✗ now wrong" : "still wrong";
    const tone = after === label ? "yes" : before === label ? "no" : null;
    return h("li", { "data-tone": tone },
      h("img", { src: images(i), alt: `a drawing of the class “${names[label]}”`, width: 56, height: 56, class: "dark-light" }),
      h("b", {}, names[label]), h("span", {}, `“${names[before]}” → “${names[after]}”`), h("span", {}, mark));
  }

  function payers(net) {
    const list = (sign) => [...net].filter(([, change]) => change * sign > 0)
      .sort(([, a], [, b]) => sign * (b - a)).map(([c, change]) => `${names[c]} (${signed(change, 0)})`);
    const lose = list(-1), gain = list(1);
    if (!lose.length && !gain.length) return "No other class gains or loses a right drawing.";
    const part = (label, classes) => (classes.length ? `${label}: ${classes.join(", ")}. ` : "");
    return part("Classes that pay", lose) + part("Classes that gain", gain);
  }

  let request = 0;

  /** Score the words on validation; if the reader has typed on meanwhile, the result is dropped. */
  async function update() {
    const mine = ++request, c = chosen(), list = lines();
    if (!list.length) {
      part("numbers").replaceChildren();
      part("moved").replaceChildren();
      part("moved-title").textContent = "";
      part("payers").textContent = "";
      part("status").textContent = "Type at least one text.";
      return;
    }
    const words = await wordsVector(list);
    if (mine !== request) return;
    const result = effect(validation, c, words), name = names[c];
    if (!tried.has(c)) tried.set(c, new Set());
    if (list.join() !== name) tried.get(c).add(list.join("\n"));
    part("numbers").replaceChildren(...numbers(result, name));
    part("tries").textContent = `You have tried ${plural(tried.get(c).size, "wording")} of “${name}” on validation. ` +
      "The best of many looks better than it is.";
    part("moved-title").textContent = result.moved.length > MAX_MOVED
      ? `${plural(result.moved.length, "drawing")} move, ${MAX_MOVED} of them shown`
      : `${plural(result.moved.length, "drawing")} ${result.moved.length === 1 ? "moves" : "move"}`;
    part("moved").replaceChildren(...result.moved.slice(0, MAX_MOVED).map(movedImage));
    part("payers").textContent = payers(result.net);
    part("status").textContent =
      `${name}: ${result.own.before} to ${result.own.after} of ${result.own.n} right; all drawings ${points(result.all.change)}.`;
    root.dataset.labShown = list.join("\n");
  }

  let pause = 0;
  part("texts").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(update, PAUSE);
  });
  for (const button of root.querySelectorAll("[data-lab-fill]")) {
    button.addEventListener("click", () => {
      part("texts").value = fill[button.dataset.labFill](names[chosen()]).join("\n");
      update();
    });
  }
  part("class").addEventListener("change", () => {
    part("texts").value = fill.descriptions(names[chosen()]).join("\n");
    showTested();
    update();
  });

  // ---- The test set, once ----

  function showTested() {
    part("test").disabled = tested.has(chosen());
    part("test-result").replaceChildren();
  }

  onPress(part("test"), part("status"), async (report) => {
    const c = chosen(), name = names[c], list = lines();
    if (!list.length) throw new Error("There is no text to score.");
    if (!test) {
      report("Loading the test vectors …");
      const { labels } = await clipnb.loadJson("test");
      const packed = await clipnb.loadVectors("test-vectors");
      report(`Comparing ${number.format(labels.length)} test drawings with all class names …`);
      test = await compared(labels, packed);
    }
    const words = await wordsVector(list), rows = { validation: effect(validation, c, words), test: effect(test, c, words) };
    tested.add(c);
    showTested();
    part("test-result").replaceChildren(
      h("table", {},
        h("caption", {}, `The words for “${name}” on the drawings they were chosen on, and on others`),
        h("thead", {}, h("tr", {}, ["drawings", `${name}: right`, `${name}: change`, "all: change"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, Object.entries(rows).map(([set, { own, all }]) =>
          h("tr", { "data-set": set, "data-before": own.before, "data-after": own.after, "data-all": all.change.value },
            h("th", { scope: "row" }, set), h("td", {}, `${own.before} → ${own.after} of ${own.n}`),
            h("td", {}, points(own.change)), h("td", {}, points(all.change)))))),
      h("p", {}, "A gain that validation shows and test does not was tuned to the validation drawings. The test drawings are spent for " +
        "this class: whoever changes the words now and scores them again tunes on test, so the button stays off."));
    report(`Test: ${rows.test.own.before} to ${rows.test.own.after} of ${rows.test.own.n} right, all drawings ${points(rows.test.all.change)}.`);
    part("texts").focus();
  });

  // ---- Start ----

  start(root, async (report) => {
    ({ names } = await clipnb.loadJson("classes"));
    classVectors = await clipnb.loadVectors("class-vectors");
    ({ encode } = await clipnb.textTower(report));
    report("Loading the drawings …");
    texts = await clipnb.loadJson("texts");
    const { labels, ends } = await clipnb.loadJson("validation"), packed = await clipnb.loadVectors("validation-vectors");
    const drawings = await clipnb.loadBytes("lab", "validation-images"), addresses = new Map();
    images = (i) => {
      if (!addresses.has(i)) {
        const drawing = drawings.subarray(i ? ends[i - 1] : 0, ends[i]);
        addresses.set(i, URL.createObjectURL(new Blob([drawing], { type: "image/webp" })));
      }
      return addresses.get(i);
    };
    report(`Comparing ${number.format(labels.length)} drawings with ${names.length} class names …`);
    validation = await compared(labels, packed);
    part("texts").value = fill.descriptions(names[chosen()]).join("\n");
    showTested();
    await update();
  });
})();

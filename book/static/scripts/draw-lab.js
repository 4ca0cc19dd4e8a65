// The draw lab: an image that the reader draws or opens, and the class names that clipnb-mini finds most similar to it.
(() => {
  "use strict";

  const { h, parts, onPress, start } = clipnb.lab;
  const root = document.getElementById("draw-lab"), part = parts(root);
  const canvas = part("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
  const SIDE = canvas.width;
  const PEN = 8; // pixels; the drawings that the model was trained on have lines of about this weight
  const TOP = 5;

  const drawing = { image: null, strokes: [] }; // image: { data: ImageData, shown: canvas }, under the strokes
  let model = null; // the image tower
  let classes = []; // { name, synonyms, vector, own }
  let similarities = null; // of the current image, one a class; null for a blank canvas

  // ---- The canvas ----

  function redraw() {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SIDE, SIDE);
    if (drawing.image) {
      const { shown } = drawing.image, scale = SIDE / Math.min(shown.width, shown.height);
      const [width, height] = [shown.width * scale, shown.height * scale];
      context.drawImage(shown, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
    }
    Object.assign(context, { strokeStyle: "#000", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    for (const points of drawing.strokes) {
      context.beginPath();
      context.moveTo(...points[0]);
      for (const point of points.length > 1 ? points.slice(1) : points) context.lineTo(...point);
      context.stroke();
    }
    const empty = !drawing.image && !drawing.strokes.length;
    part("undo").disabled = part("clear").disabled = empty;
    look();
  }

  function pointOf(event) {
    const box = canvas.getBoundingClientRect(), scale = SIDE / canvas.clientWidth;
    return [(event.clientX - box.left - canvas.clientLeft) * scale, (event.clientY - box.top - canvas.clientTop) * scale];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    const points = [pointOf(event)];
    drawing.strokes.push(points);
    redraw();
    const move = (moved) => {
      if (moved.pointerId !== event.pointerId) return;
      const steps = moved.getCoalescedEvents?.() ?? [];
      points.push(...(steps.length ? steps : [moved]).map(pointOf));
      redraw();
    };
    const end = (ended) => {
      if (ended.pointerId !== event.pointerId) return;
      canvas.removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) canvas.removeEventListener(name, end);
      announce();
    };
    canvas.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
  });

  part("undo").addEventListener("click", () => {
    if (!drawing.strokes.pop()) drawing.image = null;
    redraw();
    announce();
  });
  part("clear").addEventListener("click", () => {
    Object.assign(drawing, { image: null, strokes: [] });
    redraw();
    announce();
  });

  // ---- Images ----

  async function show(blob) {
    let data;
    try {
      data = await clipnb.imageData(blob);
    } catch {
      part("status").textContent = "This file could not be read as an image.";
      return;
    }
    const shown = h("canvas", { width: data.width, height: data.height });
    shown.getContext("2d").putImageData(data, 0, 0);
    Object.assign(drawing, { image: { data, shown }, strokes: [] });
    redraw();
    announce();
  }

  part("file").addEventListener("change", ({ target }) => {
    if (target.files.length) show(target.files[0]);
    target.value = "";
  });
  for (const button of root.querySelectorAll("[data-lab-example]")) {
    button.addEventListener("click", () => {
      // An <img> cannot give its bytes, and a page opened from a folder cannot fetch them; the address holds them.
      const bytes = atob(button.querySelector("img").src.split(",")[1]);
      show(new Blob([Uint8Array.from(bytes, (character) => character.charCodeAt(0))], { type: "image/webp" }));
    });
  }
  canvas.addEventListener("dragover", (event) => event.preventDefault());
  canvas.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
    else part("status").textContent = "Only an image file can be dropped here.";
  });
  document.addEventListener("paste", (event) => {
    if (model && event.clipboardData.files.length) {
      event.preventDefault();
      show(event.clipboardData.files[0]);
    }
  });

  // ---- Answers ----

  let looking = null, lookAgain = false;

  /** Compare the canvas with all names; while one comparison runs, only the latest request is kept. */
  function look() {
    if (!model) return;
    if (looking) {
      lookAgain = true;
      return;
    }
    looking = (async () => {
      do {
        lookAgain = false;
        await compare();
        showAnswers();
      } while (lookAgain);
      looking = null;
    })();
  }

  const isBlank = (bytes) => bytes.every((byte, i) => byte === bytes[i % 4]);

  async function compare() {
    // A file that was not drawn on is read as it is, not as the canvas shows it.
    const untouched = drawing.image && !drawing.strokes.length;
    const image = untouched ? drawing.image.data : context.getImageData(0, 0, SIDE, SIDE);
    if (isBlank(image.data)) {
      similarities = null;
      return;
    }
    const vector = await model.encode(image);
    similarities = classes.map((entry) => clipnb.similarity(vector, 0, entry.vector, 0, vector.length));
  }

  /** Positions of the classes, most similar first; ties go to the lower index. */
  const ranking = () => [...similarities.keys()].sort((a, b) => similarities[b] - similarities[a] || a - b);

  function answer(c) {
    const { name, synonyms, own } = classes[c], value = similarities[c];
    const others = own ? "yours" : synonyms.slice(0, 2).join(", ");
    return h("li", { "data-lab-result": true, "data-name": name, "data-value": value },
      h("span", {}, name, others ? h("small", {}, ` (${others})`) : []), " ",
      h("strong", {}, value.toFixed(2).replace("-", "\u2212")),
      h("progress", { value: Math.max(0, value), max: 1, "aria-hidden": "true" }));
  }

  function showAnswers() {
    if (!similarities) {
      part("results").replaceChildren();
      part("median").textContent = "The canvas is blank, so nothing is compared. Draw something.";
      part("rank").textContent = "";
      return;
    }
    const order = ranking();
    part("results").replaceChildren(...order.slice(0, TOP).map(answer));
    const median = similarities[order[Math.floor(order.length / 2)]].toFixed(2).replace("-", "\u2212");
    part("median").textContent =
      `For comparison: half of the ${order.length} names have a similarity below ${median}. A similarity is not a probability.`;
    const chosen = part("class").value;
    part("rank").textContent = chosen === "" ? "" : rankText(order.indexOf(Number(chosen)) + 1, classes[chosen].name, order.length);
  }

  function rankText(rank, name, count) {
    const depths = [1, 5, 10].map((k) => `${rank <= k ? "a hit" : "a miss"} for Recall@${k}`);
    return `“${name}” is at rank ${rank} of ${count}: ${depths.join(", ")}. By chance, Recall@5 is ${((100 * TOP) / count).toFixed(1)} %.`;
  }

  /** Tell a screen reader the answers once, after a stroke or a choice; not while the pen moves. */
  async function announce() {
    await looking;
    part("status").textContent = similarities
      ? `Most similar: ${ranking().slice(0, TOP).map((c) => `${classes[c].name} ${similarities[c].toFixed(2)}`).join(", ")}.`
      : "The canvas is blank.";
  }

  part("class").addEventListener("change", showAnswers);

  // ---- Names of the reader's own ----

  function listClasses() {
    const chosen = part("class").value;
    part("class").replaceChildren(h("option", { value: "" }, "choose a class"),
      ...classes.map(({ name, own }, c) => h("option", { value: c }, own ? `${name} (yours)` : name)));
    part("class").value = classes[chosen] ? chosen : "";
    root.querySelector(".lab-own").replaceChildren(...classes.filter(({ own }) => own).map((entry) =>
      h("li", {}, entry.name, " ", h("button", { type: "button", "aria-label": `Remove ${entry.name}`, on: { click: () => remove(entry) } }, "Remove"))));
  }

  function remove(entry) {
    classes = classes.filter((other) => other !== entry);
    listClasses();
    look();
    part("own").querySelector("input").focus();
  }

  onPress(part("text"), part("status"), async (report) => {
    await clipnb.textTower(report);
    report("The text side is ready.");
    part("text").hidden = true;
    part("own").hidden = false;
    part("own").querySelector("input").focus();
  });

  part("own").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = part("own").querySelector("input"), name = input.value.trim();
    if (!name) return;
    if (classes.some((entry) => entry.name === name)) {
      part("status").textContent = `“${name}” is in the list already.`;
      return;
    }
    const { encode } = await clipnb.textTower(() => {});
    const [vector] = await encode([name]);
    classes.push({ name, synonyms: [], vector, own: true });
    input.value = "";
    listClasses();
    look();
    announce();
  });

  // ---- Start ----

  start(root, async (report) => {
    const { names, synonyms } = await clipnb.loadJson("classes");
    const vectors = await clipnb.loadVectors("class-vectors"), d = vectors.length / names.length;
    model = await clipnb.imageTower(report);
    classes = names.map((name, c) => ({ name, synonyms: synonyms[c], vector: vectors.subarray(c * d, (c + 1) * d), own: false }));
    listClasses();
    redraw();
    report("The model is ready. Draw something, or choose an example image.");
  });
})();

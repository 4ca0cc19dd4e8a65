// clipnb-mini in the page, run by ONNX Runtime Web. The files lie beside the book (tools/book/browser_model.py) as scripts
// that hold base64 of gzip: a page opened from a folder may load scripts, but may not fetch files or import modules.
(() => {
  "use strict";

  const STATIC = new URL("..", document.currentScript.src);
  const LAB = "lab", RUNTIME = "vendor/onnxruntime";
  const clipnb = (window.clipnb ??= {});
  clipnb.files = {}; // what a loaded script leaves here is taken at once

  function loadScript(path) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(path, STATIC);
      script.onload = () => { script.remove(); resolve(); };
      script.onerror = () => { script.remove(); reject(new Error(`The file ${path} could not be loaded.`)); };
      document.head.append(script);
    });
  }

  function bytesOfBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const binary = atob(text), bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  }

  /** The bytes of a packed file. */
  async function loadBytes(folder, name) {
    await loadScript(`${folder}/${name}.js`);
    const packed = bytesOfBase64(clipnb.files[name]);
    delete clipnb.files[name];
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(unpacked).arrayBuffer());
  }

  const loadJson = async (name) => JSON.parse(new TextDecoder().decode(await loadBytes(LAB, name)));

  /** Call `load` once; a failure is forgotten, so that the reader can try again. */
  function once(load) {
    let result = null;
    return (...args) => (result ??= load(...args).catch((error) => { result = null; throw error; }));
  }

  /** Half-precision bits -> float32. */
  function halves(bits) {
    const values = new Float32Array(bits.length);
    for (let i = 0; i < bits.length; i++) {
      const exponent = (bits[i] >> 10) & 31, fraction = bits[i] & 1023;
      const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
      values[i] = bits[i] >> 15 ? -size : size;
    }
    return values;
  }

  /** Unit-norm vectors that were packed in half precision, one after the other. */
  const loadVectors = async (name) => {
    const bytes = await loadBytes(LAB, name);
    return halves(new Uint16Array(bytes.buffer));
  };

  const settings = once(() => loadJson("settings"));

  const runtime = once(async () => {
    await loadScript(`${RUNTIME}/ort.wasm.min.js`);
    const glue = await loadBytes(RUNTIME, "ort-wasm-simd-threaded.mjs");
    const { wasm } = ort.env;
    wasm.numThreads = 1; // more would need headers that a static site does not send
    wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
    wasm.wasmBinary = (await loadBytes(RUNTIME, "ort-wasm-simd-threaded.wasm")).buffer;
  });

  async function session(name) {
    await runtime();
    return ort.InferenceSession.create(await loadBytes(LAB, name), { executionProviders: ["wasm"] });
  }

  /** The image tower: ImageData -> a unit-norm vector. */
  const imageTower = once(async (report) => {
    const { size, mean, std } = await settings();
    report("Loading the image side …");
    const tower = await session("image-tower");
    const encode = async (image) => {
      const pixels = clipnb.normalized(clipnb.squarePixels(image, size), mean, std);
      const { y } = await tower.run({ x: new ort.Tensor("float32", pixels, [1, 3, size, size]) });
      return y.data;
    };
    await encode(new ImageData(size, size)); // the first run takes longer
    return { encode };
  });

  /** The text tower: a list of texts -> as many unit-norm vectors. */
  const textTower = once(async (report) => {
    const { contextLength } = await settings();
    const tokenizer = new clipnb.Tokenizer(await loadJson("vocabulary"), contextLength);
    report("Loading the text side …");
    const tower = await session("text-tower");
    const encodeOne = async (text) => {
      const ids = Int32Array.from(tokenizer.encode(text));
      const { y } = await tower.run({ x: new ort.Tensor("int32", ids, [1, ids.length]) });
      return y.data;
    };
    const encode = async (texts) => {
      const vectors = [];
      for (const text of texts) vectors.push(await encodeOne(text));
      return vectors;
    };
    await encode(["dog"]);
    return { encode, tokenizer };
  });

  /** Similarity of two unit-norm vectors: number `i` of `left` and number `j` of `right`, each of length `d`. */
  function similarity(left, i, right, j, d) {
    let sum = 0;
    for (let k = 0, a = i * d, b = j * d; k < d; k++) sum += left[a + k] * right[b + k];
    return sum;
  }

  /** Whether this browser can run the model at all. */
  const supported = () => typeof WebAssembly === "object" && typeof DecompressionStream === "function";

  Object.assign(clipnb, { imageTower, textTower, loadJson, loadVectors, loadBytes, similarity, settings, supported });
})();

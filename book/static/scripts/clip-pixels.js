// Pixels as Python computes them: transparency on white, Pillow's bicubic resize (antialiased, in fixed point, first
// horizontally), centre crop, normalization. The canvas' own resize differs by up to 55 levels and changes predictions.
(() => {
  "use strict";

  const PRECISION = 22; // bits behind the point of Pillow's fixed-point weights
  const ONE = 2 ** PRECISION, HALF = 2 ** (PRECISION - 1);
  const SUPPORT = 2; // pixels to each side that a cubic filter reads
  const CUBIC = -0.5; // the cubic's parameter

  function cubic(distance) {
    const x = Math.abs(distance);
    if (x < 1) return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * CUBIC : 0;
  }

  /** For each of `target` pixels: the first source pixel that it reads, and the weights from there on. */
  function filters(source, target) {
    const scale = source / target, stretch = Math.max(scale, 1), reach = SUPPORT * stretch;
    return Array.from({ length: target }, (_, i) => {
      const centre = (i + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - reach + 0.5));
      const last = Math.min(source, Math.trunc(centre + reach + 0.5));
      const raw = Array.from({ length: last - first }, (_, x) => cubic((x + first - centre + 0.5) / stretch));
      const sum = raw.reduce((a, b) => a + b, 0);
      const weights = Int32Array.from(raw, (weight) => Math.trunc((weight / sum) * ONE + (weight < 0 ? -0.5 : 0.5)));
      return { first, weights };
    });
  }

  /** Resize along one axis: `count` lines, pixels `step` apart, lines `stride` apart (in values, three a pixel). */
  function resizeAxis(pixels, source, target, count, { step, stride }, out, { outStep, outStride }) {
    filters(source, target).forEach(({ first, weights }, i) => {
      for (let line = 0; line < count; line++) {
        const start = line * stride + first * step, place = line * outStride + i * outStep;
        for (let channel = 0; channel < 3; channel++) {
          let sum = HALF;
          for (let k = 0; k < weights.length; k++) sum += pixels[start + k * step + channel] * weights[k];
          out[place + channel] = Math.min(255, Math.max(0, sum >> PRECISION));
        }
      }
    });
    return out;
  }

  /** Pillow's Image.resize(BICUBIC) of RGB bytes. */
  function resize(rgb, width, height, newWidth, newHeight) {
    let current = rgb;
    if (newWidth !== width) {
      const out = new Uint8Array(newWidth * height * 3);
      current = resizeAxis(current, width, newWidth, height, { step: 3, stride: 3 * width }, out, { outStep: 3, outStride: 3 * newWidth });
    }
    if (newHeight !== height) {
      const out = new Uint8Array(newWidth * newHeight * 3), row = 3 * newWidth;
      current = resizeAxis(current, height, newHeight, newWidth, { step: row, stride: 3 }, out, { outStep: row, outStride: 3 });
    }
    return current;
  }

  /** RGB bytes of RGBA bytes on white, rounded as Pillow's alpha_composite rounds. */
  function onWhite(rgba) {
    const rgb = new Uint8Array((rgba.length / 4) * 3);
    for (let i = 0, j = 0; i < rgba.length; i += 4) {
      const alpha = rgba[i + 3];
      for (let channel = 0; channel < 3; channel++) {
        const blended = rgba[i + channel] * alpha + 255 * (255 - alpha) + 128;
        rgb[j++] = alpha === 255 ? rgba[i + channel] : (blended + (blended >> 8)) >> 8;
      }
    }
    return rgb;
  }

  // Python rounds halves to even, which decides where an odd margin is cut.
  const halfToEven = (x) => (x % 2 ? Math.floor(x / 2) + (Math.floor(x / 2) % 2) : x / 2);

  /** ImageData -> size x size RGB bytes: the shorter side resized to `size`, the centre cut out. */
  function squarePixels({ data, width, height }, size) {
    const scaled = (side, shorter) => (side === shorter ? size : Math.trunc((size * side) / shorter));
    const shorter = Math.min(width, height);
    const [newWidth, newHeight] = shorter === size ? [width, height] : [scaled(width, shorter), scaled(height, shorter)];
    const rgb = resize(onWhite(data), width, height, newWidth, newHeight);
    const left = halfToEven(newWidth - size), top = halfToEven(newHeight - size);
    const square = new Uint8Array(size * size * 3);
    for (let y = 0; y < size; y++) {
      const start = ((y + top) * newWidth + left) * 3;
      square.set(rgb.subarray(start, start + size * 3), y * size * 3);
    }
    return square;
  }

  /** RGB bytes -> float32 channels, planes one after the other, less `mean` and divided by `std` as float32 does. */
  function normalized(square, mean, std) {
    const plane = square.length / 3, values = new Float32Array(square.length), f = Math.fround;
    for (let channel = 0; channel < 3; channel++) {
      const table = Float32Array.from({ length: 256 }, (_, level) =>
        f(f(f(level / 255) - f(mean[channel])) / f(std[channel])));
      for (let i = 0; i < plane; i++) values[channel * plane + i] = table[square[3 * i + channel]];
    }
    return values;
  }

  /** ImageData of a file, canvas or ImageBitmap source, on white, turned as its EXIF tag says, colours unconverted. */
  async function imageData(blob) {
    const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  Object.assign((window.clipnb ??= {}), { squarePixels, normalized, imageData });
})();

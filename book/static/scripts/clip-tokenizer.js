// Token ids as Python computes them: open_clip's cleaning (ftfy, html.unescape) and BERT's uncased WordPiece.
// Left out is ftfy's repair of text that was decoded with the wrong encoding ("Ã©" for "é").
(() => {
  "use strict";

  // Windows-1252 for 0x80 to 0x9F; the five bytes without a character keep their own.
  const WINDOWS_1252 =
    "\u20ac\x81\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\x8d\u017d\x8f" +
    "\x90\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\x9d\u017e\u0178";
  const windows1252 = (code) => WINDOWS_1252[code - 0x80];

  // ---- HTML entities ----

  // A text area decodes entities with the browser's own table, which is that of the HTML standard, and runs nothing.
  const decoder = document.createElement("textarea");
  const browserDecode = (entity) => {
    decoder.innerHTML = `x${entity}`;
    return decoder.textContent.slice(1);
  };

  const isInvalidCode = (code) =>
    (code >= 0x1 && code <= 0x8) || code === 0xb || (code >= 0xe && code <= 0x1f) || (code >= 0x7f && code <= 0x9f) ||
    (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) === 0xfffe;

  /** The character of a numeric reference such as "#233;" or "#xE9", as Python's html.unescape gives it. */
  function numericEntity(reference) {
    const hexadecimal = /^#x/i.test(reference);
    const code = parseInt(reference.slice(hexadecimal ? 2 : 1), hexadecimal ? 16 : 10);
    if (code === 0 || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) return "\ufffd";
    if (code >= 0x80 && code <= 0x9f) return windows1252(code);
    return isInvalidCode(code) ? "" : String.fromCodePoint(code);
  }

  /** Python's html.unescape. */
  const unescapeHtml = (text) =>
    text.replace(/&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/g, (entity, name) =>
      name.startsWith("#") ? numericEntity(name) : browserDecode(entity));

  /** ftfy's unescape_html: only whole entities that end in a semicolon, and lower-case names written in capitals. */
  function unescapeWhole(text) {
    const exact = (entity) => {
      const decoded = browserDecode(entity);
      return decoded.endsWith(";") && entity !== "&semi;" ? null : decoded;
    };
    return text.replace(/&#?[0-9A-Za-z]{1,24};/g, (entity) => {
      if (entity.startsWith("&#")) {
        const decoded = unescapeHtml(entity);
        return decoded.includes(";") ? entity : decoded;
      }
      const decoded = exact(entity);
      if (decoded !== null || entity !== entity.toUpperCase()) return decoded ?? entity;
      return exact(entity.toLowerCase())?.toUpperCase() ?? entity;
    });
  }

  // ---- Cleaning ----

  const compatible = (characters) => characters.normalize("NFKC");

  /** ftfy.fix_text without its repair of wrong encodings. */
  function fixText(text) {
    let unescapes = true;
    return text.split(/(?<=\n)/).map((line) => {
      if (line.includes("<")) unescapes = false;
      for (let before = null; before !== line; ) {
        before = line;
        if (unescapes) line = unescapeWhole(line);
        line = line
          .replace(/[\x80-\x9f]/g, (character) => windows1252(character.charCodeAt(0)))
          .replace(/[\u0132\u0133\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb04\ufb06]/g, compatible)
          .replace(/\u0149/g, "\u02bcn")
          .replace(/\ufb05/g, "\u017ft")
          .replace(/[\uff01-\uffef\u3000]/g, compatible)
          .replace(/[\u201c-\u201f]/g, '"')
          .replace(/[\u02bc\u2018-\u201b]/g, "'")
          .replace(/\r\n?|[\u2028\u2029\x85]/g, "\n")
          .toWellFormed()
          .replace(/\x1b\[(?:\d|;)*[a-zA-Z]/g, "")
          .replace(/[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g, "")
          .normalize("NFC");
      }
      return line;
    }).join("");
  }

  // What Python's str.split() takes for white space; JavaScript's \s adds U+FEFF and lacks some control characters.
  const PYTHON_BLANKS = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

  /** open_clip's cleaning of every text: ftfy, two rounds of html.unescape, and single blanks. */
  const clean = (text) => unescapeHtml(unescapeHtml(fixText(text))).split(PYTHON_BLANKS).filter(Boolean).join(" ");

  // ---- WordPiece ----

  const IDEOGRAPHS =
    /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;
  const PUNCTUATION = "[!-\\/:-@\\[-`{-~\\p{P}]";
  const WORDS = new RegExp(`${PUNCTUATION}|(?:(?!${PUNCTUATION})\\P{White_Space})+`, "gu");

  /** BERT's normalizer: no control characters, single blanks, ideographs apart, no accents, lower case. */
  function normalize(text) {
    const visible = text.replace(/(?![\t\n\r])[\0\ufffd\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, "").replace(/\p{White_Space}/gu, " ");
    const bare = visible.replace(IDEOGRAPHS, " $& ").normalize("NFD").replace(/\p{Mn}/gu, "");
    // One character at a time: a whole word would get the final form of the Greek sigma.
    return Array.from(bare, (character) => character.toLowerCase()).join("");
  }

  class Tokenizer {
    /** `vocabulary`: the word pieces in the order of their ids; `contextLength`: the most ids of a text. */
    constructor(vocabulary, contextLength) {
      this.ids = new Map(vocabulary.map((piece, id) => [piece, id]));
      this.contextLength = contextLength;
    }

    /** Token ids of a text, without padding. */
    encode(text) {
      const ids = [];
      for (const part of clean(text).split(/(\[(?:PAD|UNK|CLS|SEP|MASK)\])/)) {
        if (/^\[(?:PAD|UNK|CLS|SEP|MASK)\]$/.test(part)) ids.push(this.ids.get(part));
        else for (const word of normalize(part).match(WORDS) ?? []) ids.push(...this.pieces(word));
      }
      return [this.ids.get("[CLS]"), ...ids.slice(0, this.contextLength - 2), this.ids.get("[SEP]")];
    }

    /** The longest known pieces of a word from left to right; unknown where one is missing. */
    pieces(word) {
      const characters = Array.from(word), unknown = [this.ids.get("[UNK]")], ids = [];
      if (characters.length > 100) return unknown;
      for (let start = 0; start < characters.length; ) {
        let end = characters.length, id;
        for (; end > start; end--) {
          id = this.ids.get((start ? "##" : "") + characters.slice(start, end).join(""));
          if (id !== undefined) break;
        }
        if (end === start) return unknown;
        ids.push(id);
        start = end;
      }
      return ids;
    }
  }

  (window.clipnb ??= {}).Tokenizer = Tokenizer;
})();

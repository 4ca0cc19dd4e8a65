// Shared by the labs: small builders, and the way from the still figure to the live one.
// Class names and typed texts are data: they reach the page only as text nodes and attribute values.
(() => {
  "use strict";

  /** An element with attributes, listeners (`on`) and children. */
  function h(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat());
    return node;
  }

  const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  /** A number with its sign; a minus sign, not a hyphen, and none before a zero. */
  function signed(value, digits) {
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : (value < 0 ? "" : "+") + text.replace("-", "\u2212");
  }

  /** Elements of a lab by the name of their data attribute: part("results") is [data-lab-results]. */
  const parts = (root) => (name) => root.querySelector(`[data-lab-${name}]`);

  /** Let the browser draw what has changed before a long computation. */
  const painted = () => new Promise((resolve) => setTimeout(resolve));

  /** Run `load(report)` when `button` is pressed: one at a time, with its progress and its failure as text. */
  function onPress(button, status, load) {
    const report = (text) => { status.textContent = text; };
    button.addEventListener("click", async () => {
      if (button.getAttribute("aria-disabled") === "true") return;
      button.setAttribute("aria-disabled", "true");
      report("Loading …");
      await painted();
      try {
        await load(report);
      } catch (error) {
        report(`That did not work: ${error.message} You can press the button again.`);
      } finally {
        button.removeAttribute("aria-disabled");
      }
    });
  }

  /** The lab's start button: loads, then shows the live part in place of the still figure and moves the focus into it. */
  function start(root, load) {
    const part = parts(root), live = root.querySelector(".lab-live"), button = part("start");
    if (!clipnb.supported()) {
      button.parentElement.hidden = true;
      part("status").textContent = "This browser cannot run the model (it has no WebAssembly), so the figure stays as it is.";
      return;
    }
    onPress(button, part("status"), async (report) => {
      await load(report);
      for (const node of root.querySelectorAll(".lab-still, .lab-start")) node.classList.add("lab-print-only");
      live.hidden = false;
      live.querySelector("button:not([disabled]), select").focus();
      root.dataset.labReady = "";
    });
  }

  (window.clipnb ??= {}).lab = { h, plural, signed, parts, painted, onPress, start };
})();

// Draws the live figures of clipnb.widgets in the static page: no kernel, and in place of ipywidgets' manager (3.6 MB) the few
// parts of a model that the figures use. Any other widget stays undrawn, and the tests of the book then fail.
document.addEventListener("DOMContentLoaded", async () => {
  const read = (kind) => [...document.querySelectorAll(`script[type="application/vnd.jupyter.widget-${kind}+json"]`)];
  const states = Object.assign({}, ...read("state").map((node) => JSON.parse(node.textContent).state));
  const models = {}, modules = {};

  function model(id) {
    const { state } = states[id], listeners = {};
    return (models[id] ??= {
      get: (name) => state[name],
      set(name, value) {
        state[name] = value;
        (listeners[`change:${name}`] ?? []).forEach((listener) => listener());
      },
      save_changes() {},
      on: (event, listener) => (listeners[event] ??= []).push(listener),
      off(event, listener) { listeners[event] = listeners[event].filter((other) => other !== listener); },
    });
  }

  for (const view of read("view")) {
    const id = JSON.parse(view.textContent).model_id;
    const { _esm: code, _css: css, _anywidget_id: kind } = states[id].state;
    if (!modules[kind]) {
      document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
      modules[kind] = import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    }
    const el = document.createElement("div");
    view.before(el);
    (await modules[kind]).default.render({ model: model(id), el });
  }
});

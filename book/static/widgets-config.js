// Makes Jupyter widgets work in the static page with no other host in reach.
// Must run before require.js, embed-amd.js and the theme's Font Awesome: see nb_ipywidgets_js in _config.yml.
(function () {
  var vendor = new URL("vendor/", document.currentScript.src).href;
  var manager = vendor + "html-manager/";

  // require.js reads this object when it starts. anywidget is loaded from here; the widget manager's own modules are
  // inside embed-amd.js already, but webpack takes the folder of its icon fonts from their addresses.
  window.require = {
    waitSeconds: 60,
    paths: {
      "anywidget": vendor + "anywidget/index",
      "@jupyter-widgets/base": manager + "base",
      "@jupyter-widgets/controls": manager + "controls",
      "@jupyter-widgets/html-manager": manager + "html-manager",
      "@jupyter-widgets/html-manager/dist/libembed-amd": manager + "libembed-amd"
    }
  };

  // Font Awesome would replace every <i class="fa"> that appears later by an <svg>, and ipywidgets' buttons break.
  window.FontAwesomeConfig = { observeMutations: false };

  // ipywidgets asks MathJax 2 to typeset a label; the page has MathJax 3.
  document.addEventListener("DOMContentLoaded", function () {
    var mathjax = window.MathJax;
    if (!mathjax || mathjax.Hub) return;
    mathjax.Hub = {
      Queue: function (command) {
        command[2].classList.add("mathjax_process");  // the page's MathJax reads no other elements
        var ready = (mathjax.startup && mathjax.startup.promise) || Promise.resolve();
        ready.then(function () { return mathjax.typesetPromise && mathjax.typesetPromise([command[2]]); });
      }
    };
  });
})();

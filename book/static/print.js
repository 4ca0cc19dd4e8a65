// On paper everything is open and dark on white. (custom.css has the rest; admonitions are opened by sphinx-togglebutton.)
(function () {
  var page = document.documentElement;
  var theme, opened = [];
  addEventListener("beforeprint", function () {
    theme = page.dataset.theme;
    page.dataset.theme = "light";
    opened = Array.from(document.querySelectorAll(".bd-article details:not([open])"));
    opened.forEach(function (details) { details.open = true; });
  });
  addEventListener("afterprint", function () {
    page.dataset.theme = theme;
    opened.forEach(function (details) { details.open = false; });
  });
})();

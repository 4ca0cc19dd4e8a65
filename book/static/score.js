// A score under the questions of a chapter: the first answer to each counts. It stays in this browser; where the browser
// stores nothing, there is no score. (quiz.css has its look.)
(function () {
  const KEY = "clipnb-quiz";
  const questions = Array.from(document.querySelectorAll(".quiz"));
  const name = (question) => question.getAttribute("aria-labelledby");
  const answers = () => JSON.parse(localStorage.getItem(KEY) || "{}");  // question -> whether the first answer was right
  const keep = (given) => localStorage.setItem(KEY, JSON.stringify(given));
  try { keep(answers()); } catch (refused) { return; }
  if (!questions.length) return;

  const box = document.createElement("div"), text = document.createElement("p"), clear = document.createElement("button");
  box.className = "quiz-score";
  text.setAttribute("role", "status");
  clear.textContent = "Clear";
  clear.setAttribute("aria-label", "Clear the score of all chapters");
  box.append(text, clear);
  questions.at(-1).after(box);

  function share(given) { return `${given.filter(Boolean).length} of ${given.length}`; }
  function show() {
    const all = answers(), here = questions.map(name).filter((id) => id in all).map((id) => all[id]);
    box.hidden = !Object.keys(all).length;
    text.textContent = `Right at the first try: ${share(here)} answered here (${questions.length} questions), ` +
      `${share(Object.values(all))} in all chapters. The score stays in this browser.`;
  }
  questions.forEach((question) => question.addEventListener("click", (event) => {
    const option = event.target.closest("summary")?.parentElement, given = answers();
    if (!option || name(question) in given) return;
    given[name(question)] = option.querySelector("strong").textContent === "Right.";
    keep(given);
    show();
  }));
  clear.addEventListener("click", () => { keep({}); show(); });
  show();
})();

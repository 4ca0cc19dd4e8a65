"""The self-check quizzes: plain HTML in the chapters, so they work in the page, in Jupyter and on Colab alike."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from clipnb import ensemble, intervals, margin, metrics, worst

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
RIGHT, WRONG = "**Right.** ", "**No.** "
QUESTION = re.compile(
    r'<div class="quiz" role="group" aria-labelledby="(?P<label>[^"]+)">\n'
    r'<p id="(?P<id>[^"]+)"><strong>\d\.</strong> (?P<text>.+?)</p>\n(?P<options>.+?)\n</div>',
    re.DOTALL,
)
# the empty lines make Markdown of the feedback
OPTION = re.compile(r"<details>\n<summary>(.+?)</summary>\n\n(.+?)\n\n</details>", re.DOTALL)


def quiz(chapter):
    """[(question's match, [(option, feedback)])] of one chapter."""
    cells = json.loads(CHAPTERS[chapter].read_text("utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = [(match, OPTION.findall(match["options"])) for match in QUESTION.finditer(text)]
    assert text.count('class="quiz"') == len(found), (
        f"chapter {chapter}: a question is not in the form that this test reads"
    )
    assert text.count("<details>") == sum(len(options) for _, options in found)
    return found


def key(chapter, number):
    """The right option of a question, as text."""
    return next(option for option, feedback in quiz(chapter)[number - 1][1] if feedback.startswith(RIGHT))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_question_has_one_right_option_and_feedback_of_its_own_for_every_other(chapter):
    questions = quiz(chapter)
    assert 3 <= len(questions) <= 5
    for number, (match, options) in enumerate(questions, 1):
        assert match["id"] == match["label"] == f"quiz-{chapter}-{number}"
        feedback = [text for _, text in options]
        assert len(options) >= 3, match["text"]
        assert sum(text.startswith(RIGHT) for text in feedback) == 1, match["text"]
        assert all(text.startswith((RIGHT, WRONG)) and len(text.split()) > 5 for text in feedback), match["text"]
        assert len(set(feedback)) == len({option for option, _ in options}) == len(options), match["text"]


def test_the_place_of_the_right_option_gives_nothing_away():
    places = [
        [text.startswith(RIGHT) for _, text in options].index(True)
        for chapter in CHAPTERS
        for _, options in quiz(chapter)
    ]
    assert np.bincount(places).max() < 0.5 * len(places)


# Where the key is a number, it is computed

MATRIX = np.array([[6, 4], [2, 8]])
GALLERY = ([0.5, 0.4, 0.3, 0.2, 0.1], [True, False, False, True, False])  # dog, cat, cat, dog, fox


def recall_of_places(places, k):
    """Recall@K of images whose label stands at these places among six classes."""
    similarity = np.array([[1.0 if c == 0 else 2.0 if c < place else 0.0 for c in range(6)] for place in places])
    return metrics.recall_at_k(similarity, np.zeros(len(places), int), k)


def picture_margin(similarities):
    """Margin of an image of class 0 with these similarities."""
    rest = np.sqrt(1 - np.square(similarities).sum())  # the vector's other direction, which no class has
    texts = np.eye(len(similarities) + 1)[:-1]
    return margin.image_margins(np.array([[*similarities, rest]]), texts, np.array([0]))[0][0]


def retina():
    """Mean per-class recall of a program that gives every image the name of the class with 73.5 % of them."""
    always = np.zeros((5, 5), int)
    always[:, 0] = [735, 66, 66, 67, 66]
    return np.trace(always) / always.sum(), metrics.mean_per_class_accuracy(always)


def test_keys_that_are_numbers_are_what_clipnb_computes():
    percent = "{:.0%}".format
    spaced = lambda value: percent(value).replace("%", " %")  # noqa: E731
    never = np.array([[0, 50], [0, 9950]])
    low, high = intervals.wilson_interval(8, 10)
    precision, recall, thresholds = metrics.precision_recall_curve(*GALLERY)
    at = list(thresholds).index(0.3)
    weights = ensemble.softmax_weights([0.02, 0.01], 0.01)
    computed = {
        ("01", 1): spaced(recall_of_places([1, 3, 2, 6, 1], 3)),
        ("01", 3): f"{100 * low:.0f} to {100 * high:.0f} %",
        ("01", 4): spaced(metrics.retrieval_recall_at_k([[0.9, 0.8, 0.7, 0.1]], [[True, True, True, False]], 1)),
        ("02", 1): spaced(metrics.per_class_accuracy(MATRIX)[0]),
        ("02", 2): spaced(metrics.per_class_precision(MATRIX)[1]),
        ("03", 1): f"Precision 1/{1 / precision[at]:.0f}, recall 1/{1 / recall[at]:.0f}",
        ("03", 2): f"{metrics.average_precision(*GALLERY):.2f}",
        ("04", 1): f"{np.trace(never) / never.sum():.1%}".replace("%", " %"),
        ("05", 1): f"About {200 * 0.3**3:.0f}",
        ("05", 2): spaced(worst.worst_k_accuracy([0, 0.2, 0.9, 1], 2)),
        ("05", 4): spaced(worst.harmonic_mean([0] + [1] * 999)),
        ("06", 1): f"{picture_margin([0.24, 0.29, 0.20, 0.10]):.2f}".replace("-", "−"),
        ("07", 1): " and ".join(map(spaced, weights)),
        ("07", 4): f"{1 / np.square([0.5, 0.5, 0, 0]).sum():.0f}",
        ("08", 4): f"{20 * 0.05:.0f}",
        ("09", 1): f"{0.052 * 500:.0f}",
        ("12", 3): f"{40 * (1 - 0.75):.0f}",
    }
    assert computed == {question: key(*question) for question in computed}


def test_figures_in_questions_and_feedback_are_right():
    accuracy, recall = retina()
    question, _ = quiz("04")[1]
    assert (
        f"{accuracy:.1%}".replace("%", " %") in question["text"]
        and f"{recall:.1%}".replace("%", " %") in question["text"]
    )
    said = {
        (chapter, number): " ".join(text for _, text in quiz(chapter)[number - 1][1])
        for chapter, number in (("09", 1), ("12", 2))
    }
    _, low, high = intervals.proportion(26, 500)
    assert f"{100 * low:.1f} to {100 * high:.1f} %" in said["09", 1]
    assert f"{100 * intervals.proportion(0, 3).high:.0f} %" in said["12", 2]
    assert intervals.proportion(0, 36).high < 0.1 < intervals.proportion(0, 35).high


# In the page


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_quiz_is_operated_by_keyboard_and_says_nothing_before(browser, chapter):
    page_file = ROOT / f"_build/html/notebooks/{CHAPTERS[chapter].stem}.html"
    if not page_file.is_file():
        pytest.fail("there is no _build/html: run `make book` first")
    page = browser.new_page()
    page.goto(page_file.as_uri())
    groups = page.get_by_role("group").and_(page.locator(".quiz"))
    assert groups.count() == len(quiz(chapter))
    for number in range(groups.count()):
        options = groups.nth(number).locator("details")
        for option in options.all():
            assert not option.locator("p").is_visible()
            option.locator("summary").focus()
            page.keyboard.press("Enter")
            assert option.locator("p").inner_text().startswith(("Right.", "No."))
    page.close()


@pytest.fixture
def chapter_page(browser):
    """Opens a chapter from its folder: a page of a context of its own, so with a storage of its own."""
    context = browser.new_context()

    def opened(chapter, script=""):
        page = context.new_page()
        page.add_init_script(script)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(error.stack or str(error)))
        page.goto((ROOT / f"_build/html/notebooks/{CHAPTERS[chapter].stem}.html").as_uri())
        return page

    yield opened
    context.close()


def answer(page, chapter, number, right):
    """Open the right option of a question, or a wrong one."""
    options = quiz(chapter)[number - 1][1]
    place = [text.startswith(RIGHT) for _, text in options].index(right)
    page.locator(".quiz").nth(number - 1).locator("summary").nth(place).click()


def test_the_first_answer_to_each_question_counts_until_the_score_is_cleared(chapter_page):
    page = chapter_page("01")
    score = page.locator(".quiz-score")
    assert not score.is_visible()
    answer(page, "01", 1, right=True)
    assert score.get_by_role("status").inner_text().startswith("Right at the first try: 1 of 1 answered here")
    answer(page, "01", 2, right=False)
    answer(page, "01", 2, right=True)
    assert "1 of 2 answered here" in score.inner_text()

    page = chapter_page("02")  # the same browser, another chapter
    score = page.locator(".quiz-score")
    assert "0 of 0 answered here" in score.inner_text() and "1 of 2 in all chapters" in score.inner_text()
    score.get_by_role("button").click()
    assert not score.is_visible()
    page = chapter_page("01")
    assert not page.locator(".quiz-score").is_visible() and not page.errors


def test_printing_answers_no_question(chapter_page):
    page = chapter_page("01")
    page.pdf()  # opens what is folded
    assert not page.locator(".quiz-score").is_visible() and page.evaluate("localStorage['clipnb-quiz']") == "{}"


def test_where_nothing_is_stored_there_is_no_score(chapter_page):
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('', 'SecurityError'); }});"
    page = chapter_page("01", refuse)
    answer(page, "01", 1, right=True)
    assert page.locator(".quiz details[open]").count() == 1
    assert page.locator(".quiz-score").count() == 0
    assert not [error for error in page.errors if "score.js" in error]  # the theme has errors of its own then

"""The lecturer's kit: quizzes for learning platforms, the assignment and its check, the slides' numbers."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tools.book import assignment, quizzes, slides

ROOT = Path(__file__).resolve().parents[2]
QTI = "{http://www.imsglobal.org/xsd/imsqti_v2p1}"


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    out = tmp_path_factory.mktemp("kit")
    subprocess.run([sys.executable, "-m", "tools.book.quizzes", "--out", out], cwd=ROOT, check=True)
    return out


def test_moodle_has_every_question_with_one_right_answer(kit):
    bank = quizzes.questions()
    quiz = ElementTree.parse(kit / "quizzes-moodle.xml").getroot()
    asked = [item for item in quiz if item.get("type") == "multichoice"]
    assert len(asked) == len(bank) >= 50
    assert len([item for item in quiz if item.get("type") == "category"]) == 12
    for item, question in zip(asked, bank, strict=True):
        fractions = [answer.get("fraction") for answer in item.findall("answer")]
        assert fractions.count("100") == 1 and len(fractions) == len(question.options)
        assert all(len(answer.findtext("feedback/text", "")) > 20 for answer in item.findall("answer"))
        right = next(answer for answer in item.findall("answer") if answer.get("fraction") == "100")
        assert right.findtext("text") == next(option.text for option in question.options if option.right)


def test_qti_names_a_right_answer_that_exists(kit):
    bank = {f"q{question.id}.xml": question for question in quizzes.questions()}
    with zipfile.ZipFile(kit / "quizzes-qti21.zip") as package:
        listed = [
            file.get("href")
            for file in ElementTree.fromstring(package.read("imsmanifest.xml")).iter(
                "{http://www.imsglobal.org/xsd/imscp_v1p1}file"
            )
        ]
        assert sorted(listed) == sorted(bank) == sorted(set(package.namelist()) - {"imsmanifest.xml"})
        for name, question in bank.items():
            item = ElementTree.fromstring(package.read(name))
            choices = {choice.get("identifier"): choice.text for choice in item.iter(f"{QTI}simpleChoice")}
            right = item.findtext(f"{QTI}responseDeclaration/{QTI}correctResponse/{QTI}value")
            expected = next(option.text for option in question.options if option.right)
            assert right is not None and choices[right] == quizzes.plain(expected)
            shown = {feedback.get("identifier") for feedback in item.iter(f"{QTI}modalFeedback")}
            assert shown == set(choices)


def test_the_bank_has_no_answers_and_the_key_has_all(kit):
    bank, key = (kit / "question-bank.md").read_text("utf-8"), (kit / "answer-key.md").read_text("utf-8")
    assert "[x]" not in bank and "Right" not in bank
    assert key.count("[x]") == len(quizzes.questions())


def handed_in(folder, answers):
    file = folder / "answers.json"
    file.write_text(json.dumps(answers))
    command = [sys.executable, "-m", "tools.book.assignment", "check", file]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_assignment_is_graded(tmp_path):
    rows = ["image,label,guess 1,guess 2,guess 3,guess 4,guess 5"]
    rows += [f"{i},cat,{'cat,dog' if i % 4 else 'dog,cat'},fox,owl,bee" for i in range(60)]
    rows += [f"{i},dog,dog,cat,fox,owl,bee" for i in range(60, 80)]
    rows += [f"{i},{name},owl,cat,dog,{name},x" for i, name in enumerate(("fox", "bee", "owl", "x"), start=80)]
    (tmp_path / "predictions.csv").write_text("\n".join(rows))
    right = assignment.key(tmp_path / "predictions.csv")
    assert right["accuracy"] == 66 / 84 and right["classes_at_zero"] == 3 and right["majority"] == 60 / 84
    answers = {name: round(float(value), 3) for name, value in right.items() if not isinstance(value, list)}
    full = answers | {"most_frequent_mistake": ["dog", "cat"]}
    assert "17 of 17 points" in handed_in(tmp_path, full).stdout
    swapped = full | {"accuracy": "high", "chance": np.pi, "recall_at_5": None}
    done = handed_in(tmp_path, swapped)
    assert "12 of 17 points" in done.stdout and "accuracy, chance, recall_at_5" in done.stdout
    refused = handed_in(tmp_path, [1, 2])
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "expected an object" in refused.stderr


def test_the_points_are_those_of_the_rubric():
    page = (ROOT / "book/assignment.md").read_text("utf-8")
    for name, most in assignment.POINTS.items():
        assert f"| `{name}` | {most:g} |" in page
    assert sum(assignment.POINTS.values()) == 17 and "20 points" in page


def test_slides_have_the_numbers_and_figures_that_they_name():
    numbers, charts = slides.executed()
    if not numbers:
        pytest.fail("the chapters were not run: run `make book` first")
    for _title, text, figure in slides.SLIDES:
        assert figure is None or figure in charts
        slides.filled(text, numbers)
    assert 10 <= len(slides.SLIDES) <= 15


def test_slides_need_no_other_host(browser, tmp_path):
    folder = ROOT / "_build/html/slides"
    if not (folder / "index.html").is_file():
        pytest.skip("no slides were made: `make kit`")
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "index.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    assert page.evaluate("Reveal.getTotalSlides()") == len(slides.SLIDES)
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    assert (folder / "slides.pdf").read_bytes().startswith(b"%PDF")
    page.close()

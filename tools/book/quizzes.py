"""The chapters' questions for a learning platform and for the teacher: Moodle XML, QTI 2.1, and a key.

    python -m tools.book.quizzes [--out FOLDER]

Writes quizzes-moodle.xml, quizzes-qti21.zip, question-bank.md (questions without answers) and answer-key.md.
"""

import argparse
import json
import re
import zipfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
QUESTION = re.compile(
    r'<div class="quiz"[^>]*>\n<p id="quiz-(?P<id>[\d-]+)"><strong>\d\.</strong> (?P<text>.+?)</p>\n'
    r"(?P<options>.+?)\n</div>",
    re.DOTALL,
)
OPTION = re.compile(r"<details>\n<summary>(.+?)</summary>\n\n(.+?)\n\n</details>", re.DOTALL)
RIGHT = "**Right.**"
IMSQTI = "http://www.imsglobal.org/xsd/imsqti_v2p1"
IMSCP = "http://www.imsglobal.org/xsd/imscp_v1p1"


class Option(NamedTuple):
    text: str  # HTML
    feedback: str  # Markdown
    right: bool


class Question(NamedTuple):
    id: str  # "01-3": chapter and number
    chapter: str  # title
    text: str  # HTML
    options: list[Option]


def questions(folder: Path = ROOT / "notebooks") -> list[Question]:
    """Every question of every chapter, in order."""
    found = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        title = text.partition("# ")[2].partition("\n")[0]
        for match in QUESTION.finditer(text):
            options = [
                Option(option, feedback, feedback.startswith(RIGHT))
                for option, feedback in OPTION.findall(match["options"])
            ]
            found.append(Question(match["id"], title, match["text"], options))
    return found


def html(markdown: str) -> str:
    """Feedback as HTML."""
    return MarkdownIt().renderInline(markdown)


def plain(text: str) -> str:
    """A line of text without tags."""
    return re.sub(r"<[^>]+>", "", text)


# ---- Moodle ---------------------------------------------------------------------------------------------------------


def moodle(bank: list[Question]) -> bytes:
    """All questions as one Moodle XML file, a category for each chapter."""
    quiz = Element("quiz")

    def text(parent: Element, tag: str, content: str, **attributes: str) -> None:
        SubElement(SubElement(parent, tag, attributes), "text").text = content

    chapter = None
    for number, question in enumerate(bank, start=1):
        if question.chapter != chapter:
            chapter = question.chapter
            text(
                SubElement(quiz, "question", type="category"),
                "category",
                f"$course$/clipnb/{chapter.replace('/', '//')}",
            )
        item = SubElement(quiz, "question", type="multichoice")
        text(item, "name", f"{question.id} {plain(question.text)[:60]}")
        text(item, "questiontext", f"<p>{question.text}</p>", format="html")
        text(item, "generalfeedback", "", format="html")
        SubElement(item, "defaultgrade").text = "1"
        SubElement(item, "penalty").text = "0.3333333"
        SubElement(item, "hidden").text = "0"
        SubElement(item, "idnumber").text = f"clipnb-{question.id}-{number}"
        SubElement(item, "single").text = "true"
        SubElement(item, "shuffleanswers").text = "true"
        SubElement(item, "answernumbering").text = "abc"
        for option in question.options:
            answer = SubElement(item, "answer", fraction="100" if option.right else "0", format="html")
            SubElement(answer, "text").text = option.text
            text(answer, "feedback", html(option.feedback), format="html")
    return document(quiz)


# ---- QTI 2.1 --------------------------------------------------------------------------------------------------------


def qti_item(question: Question) -> bytes:
    """One question as a QTI 2.1 item: a single choice whose feedback belongs to the chosen answer."""
    item = Element(
        "assessmentItem",
        {
            "xmlns": IMSQTI,
            "identifier": f"q{question.id}",
            "title": plain(question.text)[:60],
            "adaptive": "false",
            "timeDependent": "false",
        },
    )
    names = [f"A{place}" for place in range(1, len(question.options) + 1)]
    right = next(name for name, option in zip(names, question.options, strict=True) if option.right)
    declared = SubElement(
        item, "responseDeclaration", identifier="RESPONSE", cardinality="single", baseType="identifier"
    )
    SubElement(SubElement(declared, "correctResponse"), "value").text = right
    score = SubElement(item, "outcomeDeclaration", identifier="SCORE", cardinality="single", baseType="float")
    SubElement(SubElement(score, "defaultValue"), "value").text = "0"
    SubElement(item, "outcomeDeclaration", identifier="FEEDBACK", cardinality="single", baseType="identifier")
    choice = SubElement(
        SubElement(item, "itemBody"),
        "choiceInteraction",
        responseIdentifier="RESPONSE",
        shuffle="true",
        maxChoices="1",
    )
    SubElement(choice, "prompt").text = plain(question.text)
    for name, option in zip(names, question.options, strict=True):
        SubElement(choice, "simpleChoice", identifier=name).text = plain(option.text)
    processing = SubElement(item, "responseProcessing")
    condition = SubElement(SubElement(processing, "responseCondition"), "responseIf")
    match = SubElement(condition, "match")
    SubElement(match, "variable", identifier="RESPONSE")
    SubElement(match, "correct", identifier="RESPONSE")
    SubElement(SubElement(condition, "setOutcomeValue", identifier="SCORE"), "baseValue", baseType="float").text = "1"
    chosen = SubElement(processing, "setOutcomeValue", identifier="FEEDBACK")
    SubElement(chosen, "variable", identifier="RESPONSE")
    for name, option in zip(names, question.options, strict=True):
        feedback = SubElement(item, "modalFeedback", outcomeIdentifier="FEEDBACK", identifier=name, showHide="show")
        feedback.text = plain(html(option.feedback))
    return document(item)


def qti_manifest(bank: list[Question]) -> bytes:
    """The package's table of contents."""
    manifest = Element("manifest", {"xmlns": IMSCP, "identifier": "clipnb-quizzes"})
    metadata = SubElement(manifest, "metadata")
    SubElement(metadata, "schema").text = "QTIv2.1 Package"
    SubElement(metadata, "schemaversion").text = "1.0.0"
    SubElement(manifest, "organizations")
    resources = SubElement(manifest, "resources")
    for question in bank:
        name = f"q{question.id}"
        resource = SubElement(
            resources, "resource", identifier=f"r{question.id}", type="imsqti_item_xmlv2p1", href=f"{name}.xml"
        )
        SubElement(resource, "file", href=f"{name}.xml")
    return document(manifest)


def document(root: Element) -> bytes:
    ElementTree.indent(root)
    return ElementTree.tostring(root, "utf-8", xml_declaration=True) + b"\n"


# ---- for people -----------------------------------------------------------------------------------------------------


def sheet(bank: list[Question], key: bool) -> str:
    """The questions as Markdown, with the right option and its reason, or without."""
    lines, chapter = [f"# {'Answer key' if key else 'Question bank'}\n"], None
    for question in bank:
        if question.chapter != chapter:
            chapter = question.chapter
            lines.append(f"## {int(question.id[:2])}. {chapter}\n")
        lines.append(f"**{question.id}.** {plain(question.text)}\n")
        for letter, option in zip("abcdef", question.options, strict=False):
            lines.append(f"{'- [x]' if key and option.right else '- [ ]'} ({letter}) {plain(option.text)}")
        if key:
            lines.append("\n" + next(o.feedback for o in question.options if o.right).removeprefix(RIGHT).strip())
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "_build/teaching")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    bank = questions()
    (out / "quizzes-moodle.xml").write_bytes(moodle(bank))
    with zipfile.ZipFile(out / "quizzes-qti21.zip", "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("imsmanifest.xml", qti_manifest(bank))
        for question in bank:
            package.writestr(f"q{question.id}.xml", qti_item(question))
    (out / "question-bank.md").write_text(sheet(bank, key=False), "utf-8")
    (out / "answer-key.md").write_text(sheet(bank, key=True), "utf-8")
    print(f"{out}: {len(bank)} questions as Moodle XML, QTI 2.1, question bank and answer key")


if __name__ == "__main__":
    main()

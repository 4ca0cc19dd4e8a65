"""`clipnb.audit`: the numbers are the library's, the page is safe, and odd data give a sensible report or one clear
error."""

import html
import json
import os
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

import clipnb
from clipnb import InputError, load_dataset, worst
from clipnb.report import Report, compare

HOSTILE = [
    '<script>document.title = "owned"</script>',
    '"><img src=x onerror="document.title=1">',
    "\u202ereversed\u202c",
    "it's {{ 7 * 7 }} & {%",
    "x" * 10_000,
]


def write_pictures(folder, names, per_class=3, seed=0):
    """A folder of images, `per_class` for each of the names, and the table that says which is which."""
    rng, rows = np.random.default_rng(seed), []
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        for j in range(per_class):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}-{j}.png")
            rows.append({"path": f"{i}-{j}.png", "label": name})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return f"table:{folder / 'table.csv'}"


@pytest.fixture(scope="module")
def emoji(model):
    """An audit of sixty drawings of twenty emoji classes by the embedded model."""
    data = load_dataset("emoji")
    return clipnb.audit(replace(data.take(data.labels < 20), classnames=data.classnames[:20]), model, made="today")


@pytest.fixture
def hostile(tiny, tmp_path):
    spec = write_pictures(tmp_path / "hostile", HOSTILE)
    odd = tmp_path / "hostile" / '<b onclick="x">\u202e.png'
    (tmp_path / "hostile" / "0-0.png").rename(odd)
    table = pd.read_csv(tmp_path / "hostile/table.csv")
    table.loc[0, "path"] = odd.name
    table.to_csv(tmp_path / "hostile/table.csv", index=False)
    return clipnb.audit(spec, tiny, made="today")


def shown(page: str) -> list[float]:
    """Every number on a page, to the last digit."""
    return [float(text) for text in re.findall(r'<data value="([^"]+)">', page)]


# The numbers


def test_the_numbers_are_those_of_the_library(emoji, model):
    data = load_dataset("emoji")
    data = replace(data.take(data.labels < 20), classnames=data.classnames[:20])
    result = clipnb.evaluate(
        clipnb.encode_images(model, data).vectors, clipnb.zero_shot_classifier(model, data.classnames), data.labels
    )
    for name, value in result.summary().items():
        assert emoji.summary[name] == value, name
    table = emoji.classes.set_index("class").sort_index()
    assert np.array_equal(table["accuracy"], result.per_class_accuracy, equal_nan=True)
    for column, margin in (
        ("margin", "image"),
        ("margin_no_labels", "pseudo_image"),
    ):  # two encodings: equal up to rounding
        assert np.allclose(table[column], result.cmm[margin], rtol=0, atol=1e-6, equal_nan=True)
    assert emoji.images["prediction_class"].tolist() == result.predictions.tolist()
    assert emoji.images["prediction"].tolist() == [data.classnames[c] for c in result.predictions]
    assert emoji.classes["accuracy"].is_monotonic_increasing
    k = len(emoji.worst)
    assert emoji.worst["class"].tolist() == emoji.classes["class"].tolist()[:k]
    assert emoji.worst["accuracy"].mean() == pytest.approx(worst.worst_k_accuracy(result.per_class_accuracy, k))
    assert (emoji.suspects["label"] != emoji.suspects["prediction"]).all() and emoji.suspects[
        "margin"
    ].is_monotonic_increasing


def test_html_json_csv_and_frames_hold_the_same_numbers(emoji, tmp_path):
    emoji.to_json(tmp_path / "r.json")
    emoji.to_csv(tmp_path / "csv")
    content = json.loads((tmp_path / "r.json").read_text("utf-8"))
    again = Report.load(tmp_path / "r.json")
    assert again.to_dict() == emoji.to_dict() == content
    page = shown(emoji.to_html())
    for name in ("accuracy", "mean_per_class_accuracy", "classes_at_zero"):
        assert content["summary"][name] in page and content["summary"][f"{name}_ci"][0] in page
    assert content["summary"]["harmonic_mean"] in page and content["summary"]["harmonic_mean_ci"] is None
    for name, table in emoji.tables().items():
        assert len(pd.read_csv(tmp_path / "csv" / f"{name}.csv")) == len(table) == len(content[name])
    csv = pd.read_csv(tmp_path / "csv/classes.csv")
    for column in ("accuracy", "accuracy_low", "margin", "precision", "margin_no_labels"):
        assert np.array_equal(csv[column], emoji.classes[column].astype(float), equal_nan=True), column
        assert [row[column] for row in content["classes"]] == [
            None if np.isnan(v) else v for v in emoji.classes[column]
        ], column
        assert set(emoji.classes[column].dropna()) <= set(page), column
    assert not list(tmp_path.glob(".*"))


def test_the_same_input_gives_the_same_bytes_but_for_the_time_stamp(tiny, pictures):
    first, again, later = (clipnb.audit(f"folder:{pictures}", tiny, made=made) for made in ("noon", "noon", "night"))
    assert first.to_html() == again.to_html() and first.to_dict() == again.to_dict()
    assert later.to_html().replace("night", "noon") == first.to_html() != later.to_html()


def test_the_report_says_how_the_model_was_run(emoji, model):
    assert emoji.summary["model_settings"] == model.settings
    section = next(section for section in emoji.sections() if section["title"] == "How the model was run")
    cells = str(section["rows"])
    assert all(text in cells for text in ("clipnb-mini", model.fingerprint, "fp32", "GELU", "bicubic", "shortest"))


def test_a_report_shows_itself_in_a_notebook_and_as_text(emoji):
    frame = emoji._repr_html_()
    assert (
        frame.startswith("<iframe")
        and " sandbox " in frame
        and html.unescape(re.search(r'srcdoc="([^"]*)"', frame).group(1)) == emoji.to_html()
    )
    assert emoji.advice[0] in repr(emoji) and "Worst classes:" in repr(emoji)


def test_every_other_wording_is_compared_on_the_same_images(emoji):
    table = emoji.wordings.set_index("wording")
    assert list(table.index) == [
        "single",
        "openai-7",
        "openai-7, weighted by margin",
        "descriptions",
    ]  # bare is the audited one
    assert (
        (table["accuracy_low"] <= table["accuracy_change"]) & (table["accuracy_change"] <= table["accuracy_high"])
    ).all()
    assert np.allclose(table["accuracy"] - table["accuracy_change"], emoji.summary["accuracy"])


def test_synonyms_of_a_class_are_averaged(tiny, pictures, tmp_path):
    (tmp_path / "names.json").write_text('{"cat": ["cat", "house cat"]}')
    report = clipnb.audit(f"folder:{pictures}", tiny, classes=tmp_path / "names.json")
    texts = clipnb.encode_texts(tiny, ["cat", "house cat", "dog", "fire truck"])
    mean = (texts[0] + texts[1]) / 2
    classifier = np.stack([mean / np.linalg.norm(mean), *texts[2:]])
    vectors = clipnb.encode_images(tiny, load_dataset(f"folder:{pictures}")).vectors
    assert report.images["similarity"].to_numpy() == pytest.approx((vectors @ classifier.T).max(axis=1), abs=1e-5)


# Odd data


def test_without_labels_it_ranks_and_says_how_far_to_trust_that(tiny, pictures, tmp_path, monkeypatch):
    few = load_dataset("icons").take(60)
    monkeypatch.setattr(
        "clipnb.report._audit.load_dataset", lambda spec: few if spec == "icons" else load_dataset(spec)
    )  # fewer to encode
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nfire truck\nсобака\n犬\n", "utf-8")
    for file in pictures.glob("*/*.png"):
        file.rename(pictures / f"{file.parent.name}{file.name}")
    report = clipnb.audit(f"folder:{pictures}", tiny, classes=names)
    assert not report.labelled and "accuracy" not in report.summary and report.images["label"].isna().all()
    assert report.summary["reliability_measured_on"] == "the icon set" and report.summary["classes"] == 5
    assert {"pseudo_image", "frequency", "chance"} <= set(report.reliability["score"])
    predicted = report.classes["predicted"]
    assert (
        predicted.sum() == 12
        and report.summary["never_predicted"] == (predicted == 0).sum()
        and (report.worst["predicted"] > 0).all()
    )
    assert report.worst["margin"].is_monotonic_increasing and set(report.worst["verdict"]) <= {
        "narrow margin",
        "name collision",
    }
    page = report.to_html()
    assert "no accuracy" in page and "label about thirty images" in page
    found = report.reliability.set_index("score").loc["pseudo_image", "found"]
    percent = f"{100 * found:.0f}\N{NO-BREAK SPACE}%"  # which no line break may part
    assert f"{percent} of the classes on such a list are truly" in page and found in shown(page)
    assert Report.load(_written(report, tmp_path)).to_dict() == report.to_dict()


def _written(report, folder):
    report.to_json(folder / "report.json")
    return folder / "report.json"


def test_too_few_classes_are_one_clear_error(tiny, pictures):
    with pytest.raises(
        InputError,
        match=r"Expected class folders or labels in folder:\S+, found images only: there are no classnames to "
        r"score; give a file of candidate names",
    ):
        clipnb.audit(f"folder:{pictures / 'cat'}", tiny)
    data = load_dataset(f"folder:{pictures}")
    one = replace(data.take(4), classnames=["cat"])
    with pytest.raises(
        InputError,
        match=r"Expected at least two classes in folder:.*, got one \('cat'\): every answer would be right",
    ):
        clipnb.audit(one, tiny)


def test_one_folder_among_more_candidates_is_a_report(tiny, pictures, tmp_path):
    (tmp_path / "names.txt").write_text("bird\ncat\ndog\n")
    data = load_dataset(f"folder:{pictures}")
    report = clipnb.audit(replace(data.take(4), classnames=["cat"]), tiny, classes=tmp_path / "names.txt")
    assert (
        report.summary["classes"] == 3
        and report.summary["classes_with_images"] == 1
        and report.worst["classname"].tolist() == ["cat"]
    )


def test_two_classes_of_one_name_are_named(tiny, tmp_path, pictures):
    (tmp_path / "names.csv").write_text("cat,missile\ndog,missile\n")
    report = clipnb.audit(f"folder:{pictures}", tiny, classes=tmp_path / "names.csv")
    assert report.summary["classes"] == 3 and report.findings["what"].tolist() == ["duplicate classname"]
    assert report.advice[0].startswith("Fix the class names: duplicate classname: 0 'missile', 1 'missile'")


def test_unreadable_files_are_listed_and_left_out(tiny, tmp_path):
    spec = write_pictures(tmp_path / "set", [f"class {i}" for i in range(10)])
    broken = sorted((tmp_path / "set").glob("*-0.png"))[:9]
    for file in broken[:4]:
        file.write_bytes(b"")
    for file in broken[4:8]:
        file.write_bytes(file.read_bytes()[:60])
    broken[8].unlink()
    report = clipnb.audit(spec, tiny)
    assert (
        report.unreadable["id"].tolist() == [file.name for file in broken]
        and report.unreadable["reason"].str.len().gt(5).all()
    )
    assert (
        report.summary["unreadable"] == 9
        and report.summary["images"] == report.summary["n"] == len(report.images) == 21
    )
    assert report.advice[0].startswith("Replace or remove the 9 files that could not be read")
    for file in (tmp_path / "set").glob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(
        InputError, match=r"Expected images in table:.*, none of 29 can be read: Cannot read image '0-0.png' of "
    ):
        clipnb.audit(spec, tiny)


def test_a_thousand_photos_in_a_thousand_classes(tiny, tmp_path, browser):
    spec = write_pictures(tmp_path / "set", [f"class {i}" for i in range(1000)], per_class=1)
    report = clipnb.audit(spec, tiny, worst_k=50, store=tmp_path / "store")
    report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 5e6 and report.summary["classes"] == report.summary["n"] == 1000
    assert len(report.worst) == 50 and "worst_50_split_half" not in report.summary  # one image cannot be split
    assert report.advice[0].startswith("On these images the model is not better than guessing")
    assert "source" not in json.dumps(report.to_dict()) and report.to_html().count("<img") <= 300


# The page


@pytest.fixture
def reader(browser):
    """Opens a file in a browser without a network; gives the page and what went wrong."""
    contexts = []

    def read(path, **options):
        context = browser.new_context(offline=True, bypass_csp=True, **options)
        contexts.append(context)
        page, problems = context.new_page(), []
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or problems.append(f"request: {r.url}"))
        page.on("pageerror", lambda e: problems.append(f"error: {e}"))
        page.on("console", lambda m: problems.append(f"console: {m.text}"))
        page.on("dialog", lambda d: problems.append("dialog"))
        page.goto(path.as_uri())
        return page, problems

    yield read
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_a_file_and_is_accessible(emoji, reader, tmp_path, scheme):
    emoji.to_html(tmp_path / "report.html")
    other = replace(emoji, images=emoji.images.assign(prediction_class=emoji.images["label_class"]))
    compare(emoji, other).to_html(tmp_path / "comparison.html")
    for name in ("report", "comparison"):
        page, problems = reader(tmp_path / f"{name}.html", viewport={"width": 390, "height": 844}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("img").evaluate_all("images => images.every(i => i.naturalWidth > 0)")
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert not problems, problems


def test_hostile_names_do_nothing(hostile, reader, tmp_path):
    hostile.to_html(tmp_path / "report.html")
    hostile.to_csv(tmp_path / "csv")
    page, problems = reader(tmp_path / "report.html", viewport={"width": 390, "height": 844})
    assert page.title().startswith("Audit of table:") and not problems, problems
    assert page.locator("script").count() == 0 and page.locator("[onerror], [onclick]").count() == 0
    assert page.locator("h3").all_inner_texts() and page.evaluate("document.documentElement.scrollWidth") <= 390
    text = page.locator("body").inner_text()
    assert HOSTILE[0] in text and "{{ 7 * 7 }}" in text and "x" * 2000 not in text
    content = json.loads(_written(hostile, tmp_path).read_text("utf-8"))
    assert {row["classname"] for row in content["classes"]} == set(HOSTILE)
    assert "<script>" not in hostile._repr_html_()


def test_a_file_name_that_is_no_text_is_told_by_its_bytes(tiny, pictures, tmp_path):
    (pictures / "cat" / "0.png").rename(pictures / "cat" / os.fsdecode(b"\xff.png"))
    (pictures / "dog" / os.fsdecode(b"\xfe.png")).write_bytes(b"")
    report = clipnb.audit(f"folder:{pictures}", tiny)
    assert report.unreadable["id"].tolist() == ["dog/\\xfe.png"] and "cat/\\xff.png" in report.images["id"].tolist()
    report.to_html(tmp_path / "r.html")
    report.to_csv(tmp_path / "csv")
    assert Report.load(_written(report, tmp_path)).to_dict() == report.to_dict()


# Two audits


def test_an_upgrade_that_kills_a_class_is_seen(emoji):
    label, prediction = emoji.images["label_class"], emoji.images["prediction_class"].copy()
    victim = int(emoji.classes.iloc[-1]["class"])
    better = prediction.where(label == victim, label)  # all right
    better[label == victim] = (victim + 1) % 20  # but one
    result = compare(emoji, replace(emoji, images=emoji.images.assign(prediction_class=better)))
    assert result.summary["classes_killed"] == 1 and result.summary["accuracy_change"] > 0
    killed = result.classes.set_index("class").loc[victim]
    assert (
        killed["b"] == 0
        and killed["difference"] == -killed["a"] < 0
        and killed["low"] <= killed["difference"] <= killed["high"]
    )
    assert emoji.classes.iloc[-1]["classname"] in result.advice[1] and "1 falls to 0 %" in result.advice[1]
    same = compare(emoji, emoji)
    assert same.summary["accuracy_change"] == 0 and not same.classes["beyond_chance"].any() and len(same.advice) == 1
    again = compare(replace(emoji, images=emoji.images.assign(prediction_class=better)), emoji)
    assert (
        again.summary["accuracy_change"] == -result.summary["accuracy_change"] and again.summary["classes_revived"] == 1
    )


def test_only_reports_on_the_same_images_are_compared(emoji, tmp_path):
    with pytest.raises(
        InputError, match=r"Expected two reports on the same labelled images, got .* \(60 images\) and .* \(59\)"
    ):
        compare(emoji, replace(emoji, images=emoji.images.iloc[1:]))
    (tmp_path / "other.json").write_text('{"accuracy": 1}')
    for path, text in (
        (tmp_path / "other.json", "which holds something else"),
        (tmp_path / "none.json", "No such file"),
    ):
        with pytest.raises(InputError, match=f"Expected a report that `clipnb audit --json` wrote, got .*{text}"):
            Report.load(path)


def test_every_class_is_a_square_that_opens_by_keyboard(emoji, reader, tmp_path):
    emoji.to_html(tmp_path / "r.html")
    page, problems = reader(tmp_path / "r.html", viewport={"width": 800, "height": 900})
    squares = page.locator(".atlas details")
    present = emoji.classes[emoji.classes["accuracy"].notna()]
    assert squares.count() == len(present)
    heights = squares.locator(".fill").evaluate_all("all => all.map((one) => parseFloat(one.style.height))")
    assert heights == pytest.approx(100 * present["accuracy"], abs=0.051)
    names = squares.locator(".unseen bdi").all_text_contents()
    assert names == present["classname"].tolist()
    flagged = present.sort_values("margin_no_labels", kind="stable", na_position="first")["classname"].head(
        len(emoji.worst)
    )
    assert set(page.locator(".atlas .flagged .unseen bdi").all_text_contents()) == set(flagged)
    squares.first.locator("summary").focus()
    page.keyboard.press("Enter")
    text = squares.first.locator(".card").inner_text()
    row = present.iloc[0]
    wrong = emoji.images[
        (emoji.images["label_class"] == row["class"]) & (emoji.images["prediction_class"] != row["class"])
    ]
    assert f"{row['images']} images" in text and f"margin {row['margin']:.3f}" in text
    assert wrong["prediction"].value_counts().index[0] in text
    assert squares.first.locator("img").count() == len(emoji.thumbnails[str(row["class"])])
    squares.nth(1).locator("summary").press("Enter")
    assert squares.evaluate_all("all => all.filter((one) => one.open).length") == 1 and not problems

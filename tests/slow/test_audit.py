"""The command `clipnb audit`."""

import json
import re

import pytest
from click.testing import CliRunner

import clipnb
from clipnb.cli import main


@pytest.fixture
def audit(tiny_weights, pictures):
    """Run the command on the tiny model and three classes of images."""

    def run(*arguments):
        return CliRunner().invoke(
            main,
            [
                "audit",
                "--model",
                "tiny-clip",
                "--pretrained",
                str(tiny_weights),
                "--dataset",
                f"folder:{pictures}",
                *map(str, arguments),
            ],
        )

    return run


def done(result, code=0):
    assert result.exit_code == code, result.output
    return result.stdout


def refused(result, text):
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert re.match("clipnb: " + text, result.stderr) and result.stderr.count("\n") == 1, result.stderr


def test_page_json_and_csv_are_those_of_the_function(audit, tiny, pictures, tmp_path):
    text = done(
        audit(
            "--out",
            tmp_path / "r.html",
            "--json",
            tmp_path / "r.json",
            "--csv",
            tmp_path / "csv",
            "--store",
            tmp_path / "store",
        )
    )
    report = clipnb.audit(f"folder:{pictures}", tiny, store=tmp_path / "store")
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    report.summary["made"] = found["summary"]["made"]
    assert found == report.to_dict() and (tmp_path / "r.html").read_text("utf-8") == report.to_html()
    assert {file.name for file in (tmp_path / "csv").iterdir()} == {f"{name}.csv" for name in report.tables()}
    assert "What to do first:" in text and "Worst classes:" in text
    printed = json.loads(done(audit("--json", "-")))
    printed["summary"]["made"] = found["summary"]["made"]
    assert printed == found


def test_gates_give_exit_code_3_after_everything_is_written(audit, tmp_path):
    passed = audit("--fail-under", "accuracy=0", "--fail-under", "classes_at_zero=3", "--fail-under", "unreadable=0")
    assert done(passed) and passed.stderr == ""
    missed = audit(
        "--json",
        tmp_path / "r.json",
        "--fail-under",
        "worst_10=1.01",
        "--fail-under",
        "classes_at_zero=-1",
        "--fail-under",
        "accuracy=0",
    )
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert done(missed, 3) and missed.stderr.splitlines() == [
        f"clipnb: worst_10 is {summary['worst_10']:.6g}, under 1.01",
        f"clipnb: classes_at_zero is {summary['classes_at_zero']}, over -1",
    ]
    assert summary["worst_k_classes"] == 3
    refused(
        audit("--fail-under", "worst_5=0.05", "--json", tmp_path / "new.json"),
        r"Expected --fail-under to name a score of this audit \(.*worst_10.*\), got 'worst_5'",
    )
    refused(
        audit("--fail-under", "worst_10"),
        "Expected --fail-under as NAME=NUMBER, such as classes_at_zero=0, got worst_10",
    )
    assert not (tmp_path / "new.json").exists()


def test_two_audits_side_by_side(audit, tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    done(audit("--json", a))
    done(audit("--json", b, "--templates", "openai-7"))
    run = lambda *arguments: CliRunner().invoke(main, ["audit", "--compare", *map(str, arguments)])  # noqa: E731
    text = done(run(a, b, "--out", tmp_path / "c.html", "--json", tmp_path / "c.json", "--csv", tmp_path / "csv"))
    found = json.loads((tmp_path / "c.json").read_text())
    sides = [json.loads(path.read_text())["summary"] for path in (a, b)]
    assert found["summary"]["accuracy_change"] == pytest.approx(sides[1]["accuracy"] - sides[0]["accuracy"])
    assert found["summary"]["b"]["templates"] == "openai-7" and found["scores"][0]["a"] == sides[0]["accuracy"]
    assert (
        "B is right on" in text
        and "B against A" in (tmp_path / "c.html").read_text()
        and (tmp_path / "csv/classes.csv").is_file()
    )
    assert done(run(a, b, "--fail-under", "accuracy_change=-1", "--fail-under", "classes_killed=3"))
    assert done(run(a, a, "--fail-under", "accuracy_change=0.5"), 3)
    refused(
        run(a, tmp_path / "none.json"),
        "Expected a report that `clipnb audit --json` wrote, got .*none.json: No such file",
    )
    refused(
        run(a, tmp_path / "c.json"),
        "Expected a report that `clipnb audit --json` wrote, got .*c.json, which holds something else",
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--out", "no/such/r.html"], "Expected --out to name a file in an existing folder, got no/such/r.html"),
        (["--templates", "many"], "Unknown template set 'many'"),
        (["--classes", "none.txt"], "Expected a file of classnames, got none.txt"),
        (["--descriptions", "none.json"], "Expected 'emoji', 'icons' or a JSON file of descriptions, got none.json"),
        (["--dataset", "table:none.csv"], "Expected a CSV or Parquet table in 'table:none.csv', found none"),
        (["--compare", "a.json"], "Option '--compare' requires 2 arguments"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(audit, arguments, text):
    refused(audit(*arguments), text)


def test_help_teaches():
    text = CliRunner().invoke(main, ["audit", "--help"]).stdout
    assert "clipnb audit --dataset folder:photos --out report.html" in text and "no labels" in text

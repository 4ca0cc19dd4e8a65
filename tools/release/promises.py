"""Write book/promises.md, the page "What is promised", from the tables of the tests that prove it.

python -m tools.release.promises         # after a row of those tables, or a result under benchmarks/, has changed
"""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

HEAD = """\
# What is promised

What `clipnb` withstands, and the test for it. This page is made from the tests' own tables by
`tools/release/promises.py`; a test fails when it is not current. Wrong input raises `clipnb.InputError` with one line
that names the argument, what was expected and what came; a command then ends with exit code 2, after Ctrl-C with 130,
after a failure with 1, and shows a traceback with `--debug` only.
"""
LIMITS = [  # what is limited, the limit, the name of the constant
    (
        "pixels of an image",
        "179 million (Pillow's limit; above half of it Pillow warns)",
        "PIL.Image.MAX_IMAGE_PIXELS",
    ),
    ("a file of text or JSON that is read as a whole", "512 MB", "_files.MAX_TEXT_BYTES"),
    ("resamples of a bootstrap", "100,000", "_checks.MAX_RESAMPLES"),
    ("classes of a confusion matrix", "32,768 (8 GB)", "metrics.MAX_CLASSES"),
    ("the cache of text vectors", "about 1 GB, then the older half is dropped", "encode._textcache.MAX_BYTES"),
    ("thumbnails on one report page", "240", "report._audit.MAX_IMAGES"),
    ("rows of a table on a report page", "1,000 (JSON and CSV have all)", "report._page.MAX_ROWS"),
    (
        "a server's request to wait",
        "600 seconds; then the run stops and can be resumed",
        "describe.llm.MAX_WAIT",
    ),
]

BITS = """\
A prediction, a count and every score made of counts is the same for the same input on one machine, however the images
are cut into blocks and parts, except where two classes are nearer to each other than rounding (1e-6). Of classes with
equal vectors, the one with the lower index is predicted. Similarities, margins and their means may differ in the last
bits between processors, libraries and block shapes, because matrix products do
(`test_evaluation.py::test_parts_add_up_to_the_whole`,
`test_evaluation.py::test_the_lower_of_equal_classes_is_predicted_however_images_are_cut`,
`test_similarity.py::test_a_row_depends_on_its_block_by_rounding_only`). `python -m tools.release.processors` runs the
tests of similarities, evaluation, margins and ensembles with the matrix products of other processors.
"""


def table(header: tuple[str, ...], rows) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in [header, ("---",) * len(header), *rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def tests(names) -> str:
    return ", ".join(f"`{name}`" for name in names)


def page() -> str:
    """The page in Markdown."""
    from tests.contract import test_fuzz, test_security
    from tests.slow import test_faults
    from tests.support import bad_input

    tried = Counter()
    for name, argument, mutation in bad_input.calls():
        what = "allowed" if bad_input.why_allowed(name, argument, mutation) else "refused"
        tried[mutation.partition(":")[0], what] += 1
    kinds = sorted({kind for kind, _ in tried})
    options = Counter(command for command, _, _ in bad_input.bad_options())
    total = sum(count for (_, what), count in tried.items() if what == "refused")
    columns = (*test_faults.COMMANDS, "book")
    faults = [
        (number, what, *("✓" if any(column in commands for commands in proofs.values()) else "" for column in columns))
        for number, (what, (_, proofs)) in enumerate(test_faults.FAULTS.items(), start=1)
    ]
    parts = [
        HEAD,
        "## Faults survived\n",
        table(("", "what happens", *(f"`{column}`" if column != "book" else column for column in columns)), faults),
        "An empty cell: the command has no such file or does not read it (`encode` reads no vectors; only "
        "`describe` asks a language model), or it was not "
        "tried: a small disk is mounted for three commands, where the tests may; one folder of notebooks is built "
        "by one run at a time.\n",
        table(
            ("", "result", "proved by"),
            [
                (number, comes, tests(proofs))
                for number, (comes, proofs) in enumerate(test_faults.FAULTS.values(), start=1)
            ],
        ),
        "## Bad inputs tried\n",
        f"Each argument of {len(bad_input.ROWS)} public functions is spoiled in every way of its kind, one at a "
        f"time: {total:,} calls, each refused within "
        f"{bad_input.SLOWEST} seconds of processor time in one line, without a warning (`test_bad_input.py`). "
        f"Where a value is valid after all, a row says why.\n",
        table(
            ("kind of input", "refused", "valid, with the reason in the table"),
            [(kind, tried[kind, "refused"], tried[kind, "allowed"]) for kind in kinds],
        ),
        "And on the command line, exit code 2 and one line each:\n",
        table(("command", "bad options tried"), [(f"`clipnb {command}`", count) for command, count in options.items()]),
        "Every parser of files and arguments is fed with arbitrary input by Hypothesis; only an answer or an "
        "`InputError` "
        "may come out:\n",
        table(("parser", "proved by"), [(what, f"`{test}`") for what, test in test_fuzz.PARSERS.items()]),
        "The same parsers of files are fed with bytes guided by coverage, by `python -m tools.release.fuzz` "
        "(atheris), outside the tests.\n",
        "## Security\n",
        "See `SECURITY.md` in the repository for what is not promised and how to report a weakness.\n",
        table(
            ("promise", "proved by"),
            [(what.replace("...", "…"), tests(proofs)) for what, proofs in test_security.PROMISES.items()],
        ),
        "## Limits\n",
        table(("of", "limit", "name"), [(what, limit, f"`{name}`") for what, limit, name in LIMITS]),
    ]
    for name, title in (
        ("determinism", "Same inputs, same results"),
        ("load", "Load held"),
        ("soak", "An hour without growth"),
    ):
        result = ROOT / "benchmarks" / "results" / f"{name}.md"
        if result.is_file():
            parts += [
                f"## {title}\n",
                *([BITS] if name == "determinism" else []),
                f"```{{include}} ../benchmarks/results/{name}.md\n```\n",
            ]
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "book" / "promises.md").write_text(re.sub(r"\n{3,}", "\n\n", page()), "utf-8")

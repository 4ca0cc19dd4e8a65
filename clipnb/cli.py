"""The command line: `clipnb check | encode | evaluate | margin | ensemble | audit`.

Exit codes: 0 done, 1 a run failed, 2 unusable arguments or input (one line on stderr, a traceback only with --debug), 3 a
score misses the bound that `audit --fail-under` sets.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import click
import numpy as np

from clipnb.errors import InputError


class _Group(click.Group):
    """Turns our own errors into one line and exit code 2, and anything unforeseen into one line and exit code 1."""

    def parse_args(self, ctx, args):
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _refuse(ctx, error)

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _refuse(ctx, error)
        except InputError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"clipnb: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("clipnb: interrupted; what was written so far is whole", err=True)
            ctx.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            first = (str(error).strip().splitlines() or [""])[0]
            click.echo(f"clipnb: {type(error).__name__}: {first} (run again with `clipnb --debug` for details)", err=True)
            ctx.exit(1)


def _refuse(ctx, error: click.UsageError) -> None:
    click.echo(f"clipnb: {error.format_message()} (see `{(error.ctx or ctx).command_path} --help`)", err=True)
    ctx.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="clipnb")
def main(debug: bool) -> None:
    """Judge a CLIP model: accuracy with intervals, and the categories it fails on.

    Everything runs offline on the embedded model (clipnb-mini) and pictures (the emoji set). With a model hub in
    reach: --model ViT-B-32 --pretrained openai; with your own pictures: --dataset folder:PATH.
    """


def _options(*decorators):
    def wrap(function):
        for decorator in reversed(decorators):
            function = decorator(function)
        return function
    return wrap


def _templates(default: str):
    return click.option("--templates", default=default, show_default=True,
                        help="bare, single, drawing, openai-7, openai-80, or a file with one template a line.")


_model = _options(
    click.option("--model", default="clipnb-mini", show_default=True, help="clipnb-mini, a name open_clip knows, or local-dir:PATH."),
    click.option("--pretrained", help="A tag open_clip knows for the model, or a checkpoint file."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."),
    click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16, fp16."),
)
_dataset = click.option("--dataset", default="emoji", show_default=True,
                        help="emoji, emoji:validation, emoji:hard, folder:PATH, imagenet:PATH, table:FILE, torchvision:NAME:PATH, webdataset:PATTERN.")
_store = click.option("--store", type=click.Path(path_type=Path), help="Folder that keeps the image vectors: encode once, ask many.")


def _target(ctx, param, value: str | None) -> str | None:
    """Refuse a file that cannot be written before anything is computed."""
    if value and value != "-" and (Path(value).is_dir() or not Path(value).parent.is_dir()):
        raise InputError(f"Expected {param.opts[0]} to name a file in an existing folder, got {value}")
    return value


_json = click.option("--json", "json_file", callback=_target,
                     help='Write the result as JSON to this file ("-" = standard output).')


@main.command()
def check() -> None:
    """Say in OK / FAIL lines whether this installation works: versions, device, model, pictures."""
    good = True

    def line(name: str, probe) -> None:
        nonlocal good
        try:
            click.echo(f"OK   {name}: {probe()}")
        except Exception as error:
            good = False
            click.echo(f"FAIL {name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

    line("python", lambda: platform.python_version())
    for package in ("clipnb", "torch", "torchvision", "open_clip_torch", "transformers", "numpy", "pyarrow"):
        line(package, lambda: metadata.version(package))

    def embedded():
        from clipnb import encode_texts, load_model

        model = load_model()
        vector = encode_texts(model, ["a dog"])
        line("device", lambda: f"{model.device}, {model.precision}")
        return f"{model.name}, fingerprint {model.fingerprint}, {vector.shape[1]} dimensions"

    def pictures():
        from clipnb import load_dataset

        data = load_dataset()
        return f"the emoji set, {len(data)} test pictures in {len(data.classnames)} classes, first is {data[0][0].size}"

    line("model", embedded)
    line("pictures", pictures)
    sys.exit(0 if good else 1)


@main.command()
@_model
@_dataset
@click.option("--store", required=True, type=click.Path(path_type=Path), help="Folder to write the image vectors to; a run that was cut off goes on there.")
@_json
def encode(model, pretrained, device, precision, dataset, store, json_file) -> None:
    """Encode a data set's images once into a folder of Parquet shards."""
    images, loaded, _ = _encode(model, pretrained, device, precision, dataset, store)
    _report({"store": str(store), **images.provenance, "dimensions": images.vectors.shape[1], "device": str(loaded.device)},
            json_file)


@main.command()
@_model
@_dataset
@_templates("bare")
@_store
@click.option("--worst", "worst_k", type=click.IntRange(min=1), default=10, show_default=True, help="How many worst classes.")
@_json
def evaluate(model, pretrained, device, precision, dataset, templates, store, worst_k, json_file) -> None:
    """Zero-shot accuracy, Recall@5 and the tail, each with its 95 % interval; on stderr, what is odd about the names."""
    from clipnb import evaluate as score, prompts, worst, zero_shot_classifier

    chosen = _read_templates(templates)
    images, loaded, data = _encode(model, pretrained, device, precision, dataset, store)
    findings = prompts.lint(_names(data), chosen, loaded)
    for finding in findings:
        click.echo(f"clipnb: {finding}", err=True)
    result = score(images.vectors, zero_shot_classifier(loaded, _names(data), chosen), images.labels)
    summary = {"model": loaded.name, "pretrained": loaded.pretrained, "model_fingerprint": loaded.fingerprint,
               "device": str(loaded.device), "precision": loaded.precision, "dataset": dataset,
               "templates": templates, "num_templates": len(chosen), "lint": [asdict(finding) for finding in findings],
               **result.summary(k=worst_k)}
    few = int(min(worst_k, np.isfinite(result.per_class_accuracy).sum()))
    summary["worst_classes"] = [_class_line(result, data.classnames, c) for c in
                                worst.worst_classes(result.per_class_accuracy, few)]
    _report(summary, json_file)


def _class_line(result, classnames, c: int) -> dict:
    predicted = result.confusion[c].copy()
    predicted[c] = 0
    return {"classname": classnames[c], "accuracy": float(result.per_class_accuracy[c]),
            "images": int(result.confusion[c].sum()), "cmm": _number(result.cmm["image"][c]),
            "top_rival": classnames[int(predicted.argmax())] if predicted.any() else None}


def _number(value) -> float | None:
    return None if np.isnan(value) else float(value)  # JSON has no NaN


@main.command()
@_model
@_dataset
@_templates("bare")
@_store
@click.option("--worst", "worst_k", type=click.IntRange(min=1), default=10, show_default=True, help="How many classes to list.")
@click.option("--reduction", default="image", show_default=True, type=click.Choice(["image", "class"]))
@_json
def margin(model, pretrained, device, precision, dataset, templates, store, worst_k, reduction, json_file) -> None:
    """Rank classes by the class-wise matching margin without labels (pseudo-labels); check it where labels exist."""
    from clipnb import margin as margins, metrics, zero_shot_classifier, evaluate as score

    chosen = _read_templates(templates)
    images, loaded, data = _encode(model, pretrained, device, precision, dataset, store)
    names = _names(data)
    result = score(images.vectors, zero_shot_classifier(loaded, names, chosen), images.labels)
    cmm = result.cmm[f"pseudo_{reduction}"]
    predicted = np.bincount(result.predictions, minlength=len(names))
    ranking = margins.worst_first(cmm)[: min(worst_k, len(names))]
    summary = {"model": loaded.name, "pretrained": loaded.pretrained, "dataset": dataset, "templates": templates,
               "reduction": reduction, "images": len(images), "classes": len(names),
               "never_predicted": int(np.isnan(cmm).sum()),
               "worst_by_margin": [{"classname": names[c], "cmm": _number(cmm[c]), "predicted": int(predicted[c])}
                                   for c in ranking]}
    if result.n:
        for kind, values in (("labels", result.cmm[reduction]), ("pseudo_labels", cmm)):
            rho, interval = metrics.rank_correlation(values, result.per_class_accuracy, nan="worst")
            summary |= {f"spearman_{kind}": _number(rho), f"spearman_{kind}_ci": None if np.isnan(rho) else interval}
        k = int(min(worst_k, np.isfinite(result.per_class_accuracy).sum()))
        summary[f"worst_{k}_found"] = margins.worst_found(cmm, result.per_class_accuracy, k)
    _report(summary, json_file)


@main.command()
@_model
@_dataset
@_templates("drawing")
@_store
@click.option("--fit", "fit_on", help="Data set whose images set the weights (no labels are used); default: the same images.")
@click.option("--temperature", default=0.01, show_default=True, help="Softmax temperature, in units of cosine.")
@click.option("--worst", "worst_k", type=click.IntRange(min=1), default=10, show_default=True, help="Worst classes reported, and used for the weights.")
@_json
def ensemble(model, pretrained, device, precision, dataset, templates, store, fit_on, temperature, worst_k, json_file) -> None:
    """Compare the bare name, the uniform ensemble of templates and margin-weighted ensembles (no labels used)."""
    from clipnb import ensemble as ensembles, evaluate as score, prompt_vectors

    chosen = _read_templates(templates)
    images, loaded, data = _encode(model, pretrained, device, precision, dataset, store)
    fit = images if fit_on is None else _encode(model, pretrained, device, precision, fit_on, None, loaded)[0]
    names = _names(data)
    if fit.classnames and fit.classnames != names:
        raise InputError(f"Expected --fit {fit_on} to have the classes of {dataset}, got other classnames")
    bank = prompt_vectors(loaded, names, chosen)
    weights = {
        "uniform": ensembles.prompt_weights(fit.vectors, bank, method="uniform"),
        "cmm": ensembles.prompt_weights(fit.vectors, bank, temperature=temperature),
        "cmm-worst": ensembles.prompt_weights(fit.vectors, bank, temperature=temperature, worst_k=worst_k),
        "cmm-class": ensembles.prompt_weights(fit.vectors, bank, temperature=temperature, per_class=True),
    }
    rows = [{"method": "bare", **score(images.vectors, prompt_vectors(loaded, names, ["{}"])[0], images.labels).summary(worst_k)}]
    for method, weight in weights.items():
        row = {"method": method, **score(images.vectors, ensembles.weighted_classifier(bank, weight), images.labels).summary(worst_k)}
        if weight.ndim == 1:
            row["weights"] = dict(zip(chosen, map(float, weight)))
        rows.append(row)
    _report({"model": loaded.name, "pretrained": loaded.pretrained, "dataset": dataset, "fit": fit_on or dataset,
             "templates": templates, "temperature": temperature, "rows": rows}, json_file)


LOWER_IS_BETTER = {"classes_at_zero", "classes_at_zero_change", "classes_killed", "classes_lost_beyond_chance", "never_predicted", "unreadable"}


def _gates(ctx, param, values) -> list[tuple[str, float]]:
    try:
        return [(name.strip(), float(bound)) for name, _, bound in (value.partition("=") for value in values)]
    except ValueError:
        raise InputError(f"Expected --fail-under as NAME=NUMBER, such as worst_10=0.05, got {' '.join(values)}") from None


@main.command()
@_dataset
@_model
@click.option("--classes", type=click.Path(path_type=Path),
              help="Classnames: a list for unlabelled images (.txt, .json, COCO), or better names (.json or .csv: folder, name, synonyms).")
@_templates("bare")
@click.option("--descriptions", type=click.Path(path_type=Path), help="JSON file of texts about classes, tried as another wording.")
@_store
@click.option("--worst", "worst_k", type=click.IntRange(min=1), default=10, show_default=True, help="How many worst classes to explain.")
@click.option("--out", callback=_target, help="HTML page to write: one file, opens without a network.")
@_json
@click.option("--csv", "csv_folder", type=click.Path(path_type=Path, file_okay=False), help="Folder for one CSV file a table.")
@click.option("--compare", "compared", nargs=2, metavar="A.json B.json", help="Compare two audits of the same images instead (from --json).")
@click.option("--fail-under", "gates", multiple=True, callback=_gates, metavar="NAME=NUMBER",
              help="Exit with code 3 if this score of the JSON's summary is lower (for counts of failures: higher). May be repeated.")
def audit(dataset, model, pretrained, device, precision, classes, templates, descriptions, store, worst_k, out, json_file, csv_folder,
          compared, gates) -> None:
    """Which classes of your data does the model fail on, why, and what to do first: a page for people, JSON and CSV.

    \b
    clipnb audit --dataset folder:photos --out report.html             one folder a class
    clipnb audit --dataset folder:photos --classes names.txt           no labels: which classes to look at
    clipnb audit --dataset table:photos.csv --model ViT-B-32 --pretrained openai --json b.json
    clipnb audit --compare a.json b.json --fail-under classes_killed=0
    """
    from clipnb import report as reports

    if compared:
        report = reports.compare(*map(reports.Report.load, compared))
    else:
        wording = _read_templates(templates) if Path(templates).is_file() else templates
        report = reports.audit(dataset, model, pretrained, classes=classes, templates=wording, descriptions=descriptions, worst_k=worst_k,
                               store=store, device=device, precision=precision, progress=sys.stderr.isatty())
    for name, _ in gates:
        if not isinstance(report.summary.get(name), (int, float)):
            known = [key for key, value in report.summary.items() if isinstance(value, (int, float))]
            raise InputError(f"Expected --fail-under to name a score of this audit ({', '.join(known)}), got {name!r}")
    if out:
        report.to_html(out)
    if csv_folder:
        report.to_csv(csv_folder)
    if json_file and json_file != "-":
        report.to_json(json_file)
    click.echo(json.dumps(report.json(), indent=1) if json_file == "-" else repr(report))
    missed = [f"{name} is {report.summary[name]:.6g}, {'over' if name in LOWER_IS_BETTER else 'under'} {bound:g}" for name, bound in gates
              if (report.summary[name] > bound if name in LOWER_IS_BETTER else report.summary[name] < bound)]
    for line in missed:
        click.echo(f"clipnb: {line}", err=True)
    if missed:
        click.get_current_context().exit(3)


def _encode(model, pretrained, device, precision, dataset, store, loaded=None):
    from clipnb import encode_images, load_dataset, load_model

    data = load_dataset(dataset)  # first: a wrong path is found before weights are loaded
    loaded = loaded or load_model(model, pretrained, device, precision)
    watched = sys.stderr.isatty()  # in a pipe or a log, stderr holds errors and findings only
    if watched:
        click.echo(f"{loaded.name} ({loaded.pretrained}) on {loaded.device} in {loaded.precision}: {dataset}, "
                   f"{len(data)} images", err=True)
    return encode_images(loaded, data, store, progress=watched), loaded, data


def _names(data) -> list[str]:
    if not data.classnames:
        raise InputError(f"Expected class folders in {data.name}, found pictures only: there are no classnames to score")
    return data.classnames


def _read_templates(name: str) -> list[str]:
    from clipnb.prompts import check_templates, template_set

    if Path(name).is_file():
        try:
            lines = Path(name).read_text("utf-8-sig").splitlines()  # an editor's byte order mark is no part of a prompt
        except UnicodeDecodeError:
            raise InputError(f"Expected {name} to hold one template a line in UTF-8") from None
        return check_templates([line for line in lines if line.strip()])
    return template_set(name)


def _report(content: dict, json_file: str | None) -> None:
    from clipnb.embeddings import write_atomically

    text = json.dumps(content, indent=2, ensure_ascii=False, default=float, allow_nan=False)
    if json_file == "-":
        click.echo(text)
        return
    if json_file:
        write_atomically(Path(json_file), (text + "\n").encode())
    click.echo(_table(content))


def _table(content: dict) -> str:
    lines = []
    for key, value in content.items():
        if key.endswith("_ci") or key == "lint":  # stands beside its score; was said on stderr
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            columns = [c for c in value[0] if not c.endswith("_ci") and c != "weights"]
            cells = [columns] + [[_cell(row.get(c)) for c in columns] for row in value]
            widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
            lines += ["", f"{key}:"] + ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells]
        else:
            interval = content.get(f"{key}_ci")
            lines.append(f"{key:28} {_cell(value)}" + (f"   [{_cell(interval[0])}, {_cell(interval[1])}]" if interval else ""))
    return "\n".join(lines)


def _cell(value) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

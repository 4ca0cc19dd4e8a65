"""The commands."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path

import click
import numpy as np

from clipnb._checks import text_of
from clipnb._files import path_of
from clipnb.cli._group import main
from clipnb.cli._reject import reject_option, rejection_summary
from clipnb.cli._valid import valid_label_summary, valid_labels_option
from clipnb.cli.options import (
    check_target,
    dataset_option,
    fix_names_option,
    json_option,
    model_options,
    parse_gates,
    parse_prices,
    store_option,
    templates_option,
)
from clipnb.cli.output import (
    echo_left_out,
    echo_lint,
    echo_precision,
    number_or_none,
    reproduce_tables,
    worst_sentence,
    write_result,
)
from clipnb.errors import InputError
from clipnb.prompts import load_templates, template_provenance


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
@model_options
@dataset_option
@click.option(
    "--store",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write the image vectors to; a run that was cut off goes on there.",
)
@click.option(
    "--bad-images",
    default="stop",
    show_default=True,
    type=click.Choice(["stop", "skip"]),
    help="At an image that cannot be read: stop, or skip it and list it.",
)
@click.option(
    "--decoder",
    type=click.Choice(["pillow", "device"]),
    help="device: JPEG files are decoded on the model's device, for a GPU that "
    "waits for pictures; needs clipnb[gpu].  [default: the store's, or pillow]",
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    type=click.Choice(["local", "ray"]),
    help="ray: shards are encoded by Ray Data, here or on a cluster (RAY_ADDRESS); needs clipnb[ray].",
)
@json_option
def encode(source, dataset, store, bad_images, decoder, engine, json_file) -> None:
    """Encode a data set's images once into a folder of Parquet shards."""
    from clipnb import load_dataset, load_model
    from clipnb.embeddings import read_provenance
    from clipnb.encode import encode_to_store
    from clipnb.encode._ray import encode_with_ray

    loaded, data, watched = _open(source, load_dataset(dataset))
    facts = echo_left_out(data)
    if engine == "ray":
        skipped = encode_with_ray(partial(load_model, *source.values()), dataset, store, bad_images, decoder=decoder)
    else:
        skipped = encode_to_store(loaded, data, store, bad_images=bad_images, progress=watched, decoder=decoder)
    for reason in skipped.values():
        click.echo(f"clipnb: skipped: {reason}", err=True)
    echo_precision(read_provenance(store))
    write_result(
        {
            "store": str(store),
            **read_provenance(store),
            "dimensions": loaded.dimensions,
            "device": str(loaded.device),
            "encoded": len(data) - len(skipped),
            "skipped": len(skipped),
            **facts,
            "bad_images": [{"id": i, "reason": reason} for i, reason in skipped.items()],
        },
        json_file,
    )


@main.command()
@model_options
@dataset_option
@fix_names_option
@templates_option("bare")
@store_option
@click.option(
    "--worst", "worst_k", type=click.IntRange(min=1), default=10, show_default=True, help="How many worst classes."
)
@reject_option
@valid_labels_option
@json_option
def evaluate(source, dataset, fix_names, templates, store, worst_k, reject_at, valid_file, json_file) -> None:
    """Zero-shot accuracy, Recall@5 and the tail, each with its 95 % interval; on stderr, what is odd about the names."""
    from clipnb import evaluate as score
    from clipnb import explain, worst, zero_shot_classifier

    chosen = load_templates(templates)
    images, loaded, data, facts = _encode(source, dataset, store, fix_names, labelled=True)
    findings = echo_lint(data, chosen, loaded)
    classifier = zero_shot_classifier(loaded, data.classnames, chosen)
    result = score(images.vectors, classifier, images.labels)
    if permuted := explain.order_finding(result.predictions, result.labels, data.classnames):
        click.echo(f"clipnb: {permuted}", err=True)
        findings.append(permuted)
    summary = {
        "model": loaded.name,
        "pretrained": loaded.pretrained,
        **_run_as(images),
        "device": str(loaded.device),
        "dataset": dataset,
        "templates": templates,
        "num_templates": len(chosen),
        "lint": [asdict(finding) for finding in findings],
        **facts,
        **result.summary(k=worst_k),
    }
    if dataset == "emoji":
        summary |= _hard_views(loaded, classifier)
    if reject_at is not None:
        summary |= rejection_summary(reject_at, data, images, loaded, classifier, result)
    if valid_file is not None:
        summary |= valid_label_summary(valid_file, data, images, result, worst_k)
    few = int(min(worst_k, np.isfinite(result.per_class_accuracy).sum()))
    summary["worst_classes"] = [
        _class_line(result, data.classnames, c) for c in worst.worst_classes(result.per_class_accuracy, few)
    ]
    write_result(
        summary,
        json_file,
        {
            key: value
            for key, value in summary.items()
            if key not in ("worst_k_possible", "worst_k_fits", "reject_classes")
        },
    )
    if json_file != "-" and (sentence := worst_sentence(summary)):
        click.echo(f"\n{sentence}")


def _hard_views(loaded, classifier) -> dict:
    """Scores of the test drawings turned, shrunk and moved: apart from the test split, never mixed with it."""
    from clipnb import encode_images, load_dataset
    from clipnb import evaluate as score
    from clipnb.intervals import clustered_accuracy

    data = load_dataset("emoji:hard")
    result = score(encode_images(loaded, data).vectors, classifier, data.labels)
    drawings = np.unique([identity.rpartition("#")[0] for identity in data.ids], return_inverse=True)[1]
    found = {"hard_n": result.n}
    for name, hits in (
        ("hard_accuracy", result.topk[:, 0] == data.labels),
        ("hard_recall_at_5", (result.topk == data.labels[:, None]).any(1)),
    ):
        value, *found[f"{name}_ci"] = clustered_accuracy(hits, drawings)
        found[name] = value
    return found | {
        "hard_mean_per_class_accuracy": result.mean_per_class_accuracy,
        "hard_classes_at_zero": int((result.per_class_accuracy == 0).sum()),
    }


def _class_line(result, classnames, c: int) -> dict:
    predicted = result.confusion[c].copy()
    predicted[c] = 0
    return {
        "classname": classnames[c],
        "accuracy": float(result.per_class_accuracy[c]),
        "images": int(result.confusion[c].sum()),
        "cmm": number_or_none(result.cmm["image"][c]),
        "top_rival": classnames[int(predicted.argmax())] if predicted.any() else None,
    }


@main.command()
@model_options
@dataset_option
@fix_names_option
@templates_option("bare")
@store_option
@click.option(
    "--worst", "worst_k", type=click.IntRange(min=1), default=10, show_default=True, help="How many classes to list."
)
@click.option("--reduction", default="image", show_default=True, type=click.Choice(["image", "class"]))
@json_option
def margin(source, dataset, fix_names, templates, store, worst_k, reduction, json_file) -> None:
    """Rank classes by the class-wise matching margin without labels (pseudo-labels); check it where labels exist."""
    from clipnb import evaluate as score
    from clipnb import margin as margins
    from clipnb import zero_shot_classifier
    from clipnb.intervals import rank_correlation

    chosen = load_templates(templates)
    images, loaded, data, facts = _encode(source, dataset, store, fix_names)
    names = data.classnames
    findings = echo_lint(data, chosen, loaded)
    classifier = zero_shot_classifier(loaded, names, chosen)
    result = score(images.vectors, classifier, images.labels)
    cmm = result.cmm[f"pseudo_{reduction}"]
    predicted = np.bincount(result.predictions, minlength=len(names))
    order = margins.find_worst(images.vectors, classifier, reduction=reduction)
    summary = {
        "model": loaded.name,
        "pretrained": loaded.pretrained,
        **_run_as(images),
        "dataset": dataset,
        "templates": templates,
        "reduction": reduction,
        "images": len(images),
        "classes": len(names),
        "lint": [asdict(finding) for finding in findings],
        **facts,
        "never_predicted": int(np.isnan(cmm).sum()),
        "worst_by_margin": [
            {"classname": names[c], "cmm": number_or_none(cmm[c]), "predicted": int(predicted[c])}
            for c in order[:worst_k]
        ],
    }
    if result.n:
        for kind, values in (("labels", result.cmm[reduction]), ("pseudo_labels", cmm)):
            rho, *interval = rank_correlation(values, result.per_class_accuracy, nan="worst")
            summary |= {
                f"spearman_{kind}": number_or_none(rho),
                f"spearman_{kind}_ci": None if np.isnan(interval).any() else interval,
            }
        k = int(min(worst_k, np.isfinite(result.per_class_accuracy).sum()))
        summary["worst_k_classes"] = k
        summary[f"worst_{worst_k}_found"] = margins.worst_found(order.argsort(), result.per_class_accuracy, k)
    write_result(summary, json_file)


@main.command()
@model_options
@dataset_option
@fix_names_option
@templates_option(None)
@store_option
@click.option(
    "--method",
    default="all",
    show_default=True,
    help="all, or one with its variants: single, uniform, zpe, autoclip, cmm, greedy, "
    "oracle, descriptions, keywords, random, shuffled.",
)
@click.option(
    "--fit",
    "fit_on",
    help="Data set whose images set the weights (no labels are used, but for oracles); default: the same images.",
)
@click.option(
    "--descriptions",
    show_default="emoji for the emoji set, none for others",
    help="emoji (the shipped ones), or a JSON file of texts a class.",
)
@click.option(
    "--enrich",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Classes, worst first by pseudo-CMM, that get descriptions.",
)
@click.option("--temperature", default=0.01, show_default=True, help="Softmax temperature, in units of cosine.")
@click.option(
    "--worst",
    "worst_k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Worst classes reported, and used by cmm-worst.",
)
@json_option
def ensemble(
    source, dataset, fix_names, templates, store, method, fit_on, descriptions, enrich, temperature, worst_k, json_file
) -> None:
    """Weight prompts without labels, and hold every method and control against the bare name on the same images."""
    from clipnb import describe, load_dataset
    from clipnb._checks import one_of
    from clipnb.paper import methods

    one_of(method, "--method", methods.METHODS)
    own = load_dataset(dataset)
    templates = own.templates if templates is None else templates
    descriptions = own.descriptions if descriptions is None else descriptions
    chosen = load_templates(templates)
    texts = describe.load_descriptions(descriptions) if descriptions is not None else describe.Descriptions({}, {})
    images, loaded, data, facts = _encode(source, own, store, fix_names, labelled=True)
    fit = None if fit_on is None else _encode(source, fit_on, None, fix_names, loaded=loaded)
    names = data.classnames
    if fit is not None and fit[2].classnames != names:
        raise InputError(f"Expected --fit {fit_on} to have the classes of {dataset}, got other classnames")
    findings = echo_lint(data, chosen, loaded)
    if unused := describe.unmatched(texts.by_class, names):
        click.echo(f"clipnb: {unused}", err=True)
    keywords = {name: data.keywords[name] for name in names if name in data.keywords}
    found = methods.compare_methods(
        loaded, images, names, fit and fit[0], method, chosen, texts.by_class, keywords, worst_k, enrich, temperature
    )
    rows = found.rows(worst_k)
    head = {
        "model": loaded.name,
        "pretrained": loaded.pretrained,
        "dataset": dataset,
        "fit": fit_on or dataset,
        "method": method,
        "templates": templates,
        "temperature": temperature,
        "images": len(images),
        "classes": len(names),
        "enriched": len(found.flagged),
    }
    write_result(
        {
            **head,
            **_run_as(images),
            "lint": [asdict(finding) for finding in findings],
            **facts,
            "templates_provenance": template_provenance(templates, chosen),
            "descriptions": texts.provenance,
            "flagged": [names[c] for c in found.flagged],
            "rows": rows,
            "descriptions_minus": found.against(k=worst_k),
            "not_run": found.not_run,
        },
        json_file,
        {
            **head,
            "rows": [methods.shown(row) for row in rows],
            **{f"not run: {row}": why for row, why in found.not_run.items()},
        },
    )


@main.command()
@model_options
@dataset_option
@fix_names_option
@store_option
@click.option(
    "--worst",
    "worst_k",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Classes to describe, worst first by pseudo-CMM (no labels used).",
)
@click.option(
    "--rivals",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Classes with the most similar texts that the query names.",
)
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, help="Descriptions a class.")
@click.option(
    "--llm",
    help="Language model to ask, as litellm names it (openai/gpt-4o-mini, ollama/llama3.1); its key is read from the "
    "environment. Default: nobody is asked, the shipped descriptions are used.",
)
@click.option(
    "--query",
    "query_file",
    type=click.Path(path_type=Path),
    help="Text file with the query; where there is none, the default for this data set is written there to be edited.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default="descriptions-cache",
    show_default=True,
    help="Folder of raw answers: what is there is not asked again.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=lambda ctx, param, value: value and Path(check_target(ctx, param, str(value))),
    help="Write the descriptions to this JSON file, for `ensemble --descriptions`.",
)
@click.option("--api-base", help="URL of a server of your own that speaks the OpenAI protocol.")
@click.option(
    "--price", help="US dollars per million tokens, IN,OUT; needed where litellm knows none; 0,0 for a local model."
)
@click.option("--max-cost", default=1.0, show_default=True, help="Ceiling in US dollars.")
@click.option("--concurrency", default=4, show_default=True, help="Most calls at a time.")
@click.option("--per-minute", type=float, help="Most calls a minute.")
@click.option("--retries", default=5, show_default=True, help="Repeats of a call that fails.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds for one call.")
@click.option("--allow-rivals", is_flag=True, help="Accept descriptions that name a rival.")
@click.option("--dry-run", is_flag=True, help="Show the first query and the estimate; call nothing.")
@json_option
def describe(
    source,
    dataset,
    fix_names,
    store,
    worst_k,
    rivals,
    count,
    llm,
    query_file,
    cache,
    out,
    api_base,
    price,
    max_cost,
    concurrency,
    per_minute,
    retries,
    timeout,
    allow_rivals,
    dry_run,
    json_file,
) -> None:
    """Find the worst classes without labels and get descriptions of them: the shipped ones, or a language model's."""
    from clipnb import describe as texts
    from clipnb import load_dataset, zero_shot_classifier
    from clipnb import margin as margins
    from clipnb._files import write_atomically
    from clipnb.describe.llm import Asker, ask, estimate
    from clipnb.prompts import truncated_prompts

    own = load_dataset(dataset)
    default = texts.DRAWING_QUERY if own.drawings else texts.QUERY
    if query_file and not query_file.exists():
        write_atomically(query_file, (default + "\n").encode())
        click.echo(f"The default query is in {query_file}: edit it and run again")
        return
    if llm is not None:
        text_of(llm, "--llm")
    template = texts.load_query(query_file) if query_file else default
    asker = llm and Asker(
        llm, cache, api_base, parse_prices(price), max_cost, concurrency, per_minute, retries=retries, timeout=timeout
    )
    images, loaded, data, facts = _encode(source, own, store, fix_names)
    names = data.classnames
    findings = echo_lint(data, ("{}",), loaded)
    classifier = zero_shot_classifier(loaded, names)
    flagged = margins.find_worst(images.vectors, classifier)[:worst_k]
    asked = texts.questions(names, classifier, flagged, rivals, [data.groups.get(name) for name in names])
    content = {
        "model": loaded.name,
        "pretrained": loaded.pretrained,
        **_run_as(images),
        "dataset": dataset,
        "llm": llm,
        "lint": [asdict(finding) for finding in findings],
        **facts,
        "worst": [question.classname for question in asked],
    }
    if not llm and not data.descriptions:
        click.echo(
            f"clipnb: no descriptions are shipped for {dataset}; --llm MODEL asks a language model for them", err=True
        )
        found = texts.Descriptions({}, {})
        content |= {"source": None, "without": [q.classname for q in asked]}
    elif not llm:
        shipped = texts.load_descriptions(data.descriptions)
        found = texts.Descriptions(
            {q.classname: shipped.by_class[q.classname] for q in asked if q.classname in shipped.by_class},
            shipped.provenance,
        )
        content |= {"source": "shipped", "without": [q.classname for q in asked if q.classname not in found.by_class]}
    else:
        click.echo(f"{llm}: {estimate(asker, asked, count, template)}; ceiling ${max_cost:.4f}", err=True)
        if dry_run:
            click.echo(texts.query(asked[0].classname, asked[0].rivals, count, asked[0].category, template))
            return
        answers = ask(
            asker,
            asked,
            count,
            template,
            allow_rivals,
            lambda lines: truncated_prompts(loaded, lines),
            lambda line: click.echo(line, err=True),
        )
        found = answers.descriptions(asker, template)
        content |= {
            "source": "asked",
            "calls": answers.calls,
            "cost": answers.cost,
            "refused": answers.refused,
            "missing": answers.missing,
        }
        if answers.missing:  # answers so far are in the cache; no file that looks finished
            name, why = next(iter(answers.missing.items()))
            click.echo(
                f"clipnb: {len(answers.missing)} of {len(asked)} classes got no answer ({name!r}: {why}); run again to ask for these only",
                err=True,
            )
            sys.exit(1)
        if not found.by_class:
            click.echo(
                f"clipnb: none of {len(asked)} classes got an answer that can be used; the answers are in {cache}",
                err=True,
            )
            sys.exit(1)
    if out:
        write_atomically(
            out,
            (
                json.dumps({"provenance": found.provenance, "classes": found.by_class}, ensure_ascii=False, indent=1)
                + "\n"
            ).encode(),
        )
    write_result(
        {**content, "provenance": found.provenance, "classes": found.by_class},
        json_file,
        {
            **{key: value for key, value in content.items() if key != "worst"},
            "described": f"{len(found.by_class)} of {len(asked)} classes",
            "classes": [{"classname": name, "first description": group[0]} for name, group in found.by_class.items()],
        },
    )


LOWER_IS_BETTER = {
    "classes_at_zero",
    "classes_at_zero_change",
    "classes_killed",
    "classes_lost_beyond_chance",
    "never_predicted",
    "to_a_person_for_95",
    "unreadable",
}


@main.command()
@dataset_option
@fix_names_option
@model_options
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="Classnames: a list for unlabelled images (.txt, .json, COCO), or better names (.json or .csv: folder, name, synonyms).",
)
@templates_option("bare")
@click.option(
    "--descriptions",
    type=click.Path(path_type=Path),
    help="JSON file of texts about classes, tried as another wording.",
)
@store_option
@click.option(
    "--worst",
    "worst_k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many worst classes to explain.",
)
@click.option("--out", callback=check_target, help="HTML page to write: one file, opens without a network.")
@json_option
@click.option(
    "--csv", "csv_folder", type=click.Path(path_type=Path, file_okay=False), help="Folder for one CSV file a table."
)
@click.option(
    "--compare",
    "compared",
    nargs=2,
    metavar="A.json B.json",
    help="Compare two audits of the same images instead (from --json).",
)
@click.option(
    "--fail-under",
    "gates",
    multiple=True,
    callback=parse_gates,
    metavar="NAME=NUMBER",
    help="Exit with code 3 if this score of the JSON's summary is lower (for counts of failures: higher). May be repeated.",
)
def audit(
    dataset,
    fix_names,
    source,
    classes,
    templates,
    descriptions,
    store,
    worst_k,
    out,
    json_file,
    csv_folder,
    compared,
    gates,
) -> None:
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
        wording = load_templates(templates) if path_of(templates, "--templates").is_file() else templates
        report = reports.audit(
            dataset,
            **source,
            classes=classes,
            templates=wording,
            descriptions=descriptions,
            worst_k=worst_k,
            store=store,
            fix_names=fix_names,
            progress=sys.stderr.isatty(),
        )
        echo_precision(report.summary)
        for line in report.account:
            click.echo(f"clipnb: {line}", err=True)
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
    missed = [
        f"{name} is {report.summary[name]:.6g}, {'over' if name in LOWER_IS_BETTER else 'under'} {bound:g}"
        for name, bound in gates
        if (report.summary[name] > bound if name in LOWER_IS_BETTER else report.summary[name] < bound)
    ]
    for line in missed:
        click.echo(f"clipnb: {line}", err=True)
    if missed:
        click.get_current_context().exit(3)


def _open(source, data, loaded=None):
    from clipnb import load_model

    loaded = loaded or load_model(*source.values())
    watched = sys.stderr.isatty()  # in a pipe or a log, stderr holds errors and findings only
    if watched:
        fallback = " (there is no CUDA device)" if source["device"] == "auto" and loaded.device.type == "cpu" else ""
        click.echo(
            f"{loaded.name} ({loaded.pretrained}) on {loaded.device}{fallback}: {data.name}, {len(data)} images",
            err=True,
        )
    return loaded, data, watched


def _run_as(images) -> dict:
    """How the model that encoded these images was run."""
    return {
        key: images.provenance[key]
        for key in ("model_fingerprint", "model_settings", "precision", "precision_check")
        if key in images.provenance
    }


def _encode(source, dataset, store, fix_names: bool = False, labelled: bool = False, loaded=None):
    """(images, model, data set, what JSON says of the set); the data set has the classnames that are to be scored."""
    from clipnb import encode_images, load_dataset
    from clipnb.datasets import scored_classnames
    from clipnb.prompts import fix_names as repaired

    data = (
        load_dataset(dataset) if isinstance(dataset, str) else dataset
    )  # first: a wrong path is found before weights are loaded
    scored_classnames(data)
    loaded, data, watched = _open(source, data, loaded)
    images = encode_images(loaded, data, store, progress=watched)
    echo_precision(images.provenance)
    for reason in images.skipped.values():  # in a store that was made with --bad-images skip
        click.echo(f"clipnb: skipped: {reason}", err=True)
    facts = echo_left_out(data, images, labelled)
    if fix_names:  # after encoding, so that a store serves with and without
        names, changes = repaired(data.classnames)
        data = replace(data, classnames=names)
        for old, new in changes:
            click.echo(f"clipnb: classname {old!r} is repaired to {new!r}", err=True)
        facts["renamed"] = [{"from": old, "to": new} for old, new in changes]
    return images, loaded, data, facts


@main.command()
@click.option(
    "--imagenet",
    type=click.Path(path_type=Path),
    help="ImageNet's validation pictures: a folder a synset (with or without val/ above), "
    "or all in one folder with the development kit beside it.",
)
@click.option("--dataset", help="Another set: torchvision:CIFAR100:PATH, folder:PATH, emoji ...")
@click.option(
    "--rehearsal",
    is_flag=True,
    help="No model, no pictures: an ImageNet-shaped world with planted answers, and whether they are found.",
)
@click.option(
    "--check",
    "check_file",
    type=click.Path(path_type=Path),
    help="Results of an earlier run: do they agree with the published figures?",
)
@model_options
@fix_names_option
@click.option(
    "--templates",
    show_default="drawing for sets of drawings, openai-80 for others",
    help="Templates of the ensembles: openai-7, openai-80 ..., or a file with one a line.",
)
@click.option("--descriptions", help="JSON file of texts a class, for the rows with descriptions and their controls.")
@click.option(
    "--partial",
    is_flag=True,
    help="Accept other numbers of pictures a class than ImageNet's 50: a try-out, not comparable with published figures.",
)
@click.option(
    "--pool/--no-pool",
    default=True,
    show_default=True,
    help="Also every template at hand, some 90: most of the work where there is no GPU.",
)
@store_option
@json_option
def reproduce(
    imagenet,
    dataset,
    rehearsal,
    check_file,
    source,
    fix_names,
    templates,
    descriptions,
    partial,
    pool,
    store,
    json_file,
) -> None:
    """The paper's table in one command: every method and control, twin names repaired, published figures beside.

    Exit code 0; 1 if --rehearsal misses a planted answer or --check finds no agreement; 2 for a folder that is not as it should be.
    """
    from clipnb.paper import reproduce as whole

    if sum(map(bool, (imagenet, dataset, rehearsal, check_file))) != 1:
        raise click.UsageError("Expected one of --imagenet, --dataset, --rehearsal, --check")
    if check_file:
        results, lines = whole.check_results(check_file)
        verdicts = {line["verdict"] for line in lines}
        agrees = "agrees" in verdicts and "differs" not in verdicts
        write_result(
            {
                "model": results["model"],
                "pretrained": results["pretrained"],
                "dataset": results["dataset"],
                "images": results["images"],
                "agrees": agrees,
                "published": lines,
            },
            json_file,
            {
                "model": results["model"],
                "dataset": results["dataset"],
                "agrees": agrees,
                "published": [whole.shown_published(line) for line in lines],
            },
        )
        sys.exit(0 if agrees else 1)
    if rehearsal:
        found = whole.rehearse()
        write_result(found, json_file, reproduce_tables(found))
        sys.exit(0 if all(line["ok"] for line in found["checks"]) else 1)
    found = whole.run(
        imagenet,
        dataset,
        **source,
        templates=templates,
        descriptions=descriptions,
        partial=partial,
        pool=pool,
        store=store,
        fix_names=fix_names,
        progress=sys.stderr.isatty(),
    )
    echo_precision(found)
    for line in found["account"]:
        click.echo(f"clipnb: {line}", err=True)
    write_result(found, json_file, reproduce_tables(found))

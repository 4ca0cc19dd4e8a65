import ast
import importlib
import inspect
import operator
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clipnb

PACKAGE = Path(clipnb.__file__).parent
STUB = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
# {public name: its room}, from the one list of public names
HOMES = {
    alias.name: node.module
    for node in STUB.body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}
# The rooms of the house, lowest first: a module imports only from rooms before its own.
FLOW = [
    "_arrays",
    "_moved",
    "errors",
    "_checks",
    "_files",
    "_format",
    "_tensors",
    "_device",
    "_runtime",
    "_wordnet",
    "prompts",
    "similarity",
    "intervals",
    "metrics",
    "reject",
    "slices",
    "_class_prior",
    "worst",
    "margin",
    "explain",
    "embeddings",
    "evaluation",
    "predictions",
    "retrieval",
    "multilabel",
    "paired",
    "_class_bias",
    "transductive",
    "ensemble",
    "plots",
    "notebook",
    "datasets",
    "models",
    "encode",
    "zeroshot",
    "describe",
    "widgets",
    "paper",
    "report",
    "cli",
    "__main__",
]
ARRAYS = FLOW[: FLOW.index("plots") + 1]
OLD = {"comparison", "imagenet", "llm", "rehearsal", "reproduce"}
PUBLIC = {
    "": [
        "audit",
        "load_model",
        "wrap_model",
        "load_dataset",
        "load_splits",
        "encode_images",
        "encode_texts",
        "zero_shot_classifier",
        "prompt_vectors",
        "evaluate",
        "evaluate_predictions",
        "evaluate_prompts",
        "evaluate_store",
        "EvaluationResult",
        "Embeddings",
        "Score",
        "InputError",
        "__version__",
    ],
    "metrics": [
        "accuracy",
        "recall_at_k",
        "retrieval_recall_at_k",
        "confusion_matrix",
        "per_class_accuracy",
        "per_class_precision",
        "mean_per_class_accuracy",
        "per_class_f1",
        "mean_per_class_f1",
        "precision_recall_curve",
        "average_precision",
        "hit_at_k",
        "label_rank",
        "risk_coverage_curve",
        "area_under_risk_coverage",
        "per_class_average_precision",
        "mean_average_precision",
        "calibration_bins",
        "expected_calibration_error",
    ],
    "intervals": [
        "Score",
        "proportion",
        "wilson_interval",
        "area_under_roc",
        "mean_over_classes",
        "mean_with_t",
        "percentile_interval",
        "clustered_accuracy",
        "paired_difference",
        "mcnemar",
        "rank_correlation",
        "rank_correlation_difference",
    ],
    "evaluation": [
        "EvaluationResult",
        "evaluate",
        "evaluate_prompts",
        "evaluate_store",
        "worst_class_rows",
        "margin_summary",
    ],
    "zeroshot": ["prompt_vectors", "zero_shot_classifier", "hard_views"],
    "paired": ["compare", "paired_differences", "differences_of_predictions", "chosen_on_halves"],
    "slices": ["Slice", "SliceSearch", "find_slices"],
    "reject": [
        "choose_threshold",
        "confirm",
        "confirm_on_halves",
        "accepted_by_class",
        "none_of_these",
        "set_aside",
    ],
    "worst": [
        "worst_classes",
        "worst_k_accuracy",
        "worst_k_report",
        "worst_k_reports",
        "possible_worst",
        "classes_at_zero",
        "harmonic_mean",
        "geometric_mean",
    ],
    "margin": [
        "class_wise_matching_margin",
        "image_margins",
        "worst_first",
        "worst_found",
        "worst_auc",
        "margin_intervals",
        "softmax_confidence",
        "prediction_confidence",
        "nearest_text",
        "baseline_scores",
        "compare_scores",
        "find_worst",
    ],
    "explain": ["explain_classes", "label_order", "order_finding", "VERDICTS"],
    "ensemble": [
        "prompt_margins",
        "prompt_weights",
        "softmax_weights",
        "weighted_classifier",
        "pseudo_labels",
        "description_classifier",
        "zpe_scores",
        "autoclip_weights",
        "evaluate_per_image",
        "evaluate_on_halves",
        "class_bias",
        "evaluate_offset_on_halves",
        "carprt_scores",
    ],
    "describe": [
        "query",
        "load_query",
        "load_descriptions",
        "QUERY",
        "DRAWING_QUERY",
        "unmatched",
        "questions",
        "AnswerError",
        "check_answer",
        "refusal",
        "shuffled",
        "random_words",
        "keyword_texts",
    ],
    "transductive": ["transclip", "stata"],
    "paper.corrections": ["ROWS", "corrected", "few_classes", "table"],
    "paper.tails": ["load", "right_by_class", "scores", "table", "zeros", "nearest_names", "compare_prompts"],
    "paper.methods": ["compare_methods", "METHODS"],
    "paper.rehearsal": ["make_benchmark", "PlantedBenchmark"],
    "paper.reproduce": [
        "reproduce",
        "run",
        "rehearse",
        "compare_published",
        "check_results",
        "check_agreement",
        "template_pool",
        "pool_results",
    ],
    "describe.llm": ["LLMSettings", "ask", "estimate"],
    "prompts": [
        "template_set",
        "load_templates",
        "DRAWING_TEMPLATES",
        "duplicate_classnames",
        "near_duplicate_classnames",
        "lint",
        "fix_names",
        "check_templates",
        "truncated_prompts",
        "most_frequent_names",
    ],
    "plots": [
        "per_class_accuracy",
        "confusion",
        "cluster_order",
        "with_rivals",
        "recall_curve",
        "precision_recall",
        "margin_accuracy",
        "calibration",
        "bars_with_intervals",
        "image_strip",
        "weights",
    ],
    "widgets": [
        "RecallAtKExplorer",
        "RejectExplorer",
        "ConfusionExplorer",
        "ThresholdExplorer",
        "ParadoxExplorer",
        "ClassAtlas",
        "ConfusionEditor",
        "LuckExplorer",
        "TransferExplorer",
        "NumberGuess",
        "CurveGuess",
        "ShareExplorer",
        "TailExplorer",
        "NameExplorer",
        "PromptWeightExplorer",
    ],
    "predictions": ["read_predictions", "write_predictions", "Predictions"],
    "report": [
        "audit",
        "audit_predictions",
        "compare",
        "compare_predictions",
        "missed_gates",
        "tabulate",
        "model_card",
        "write_model_card",
        "Report",
        "ReportPage",
        "PredictionsReport",
        "RunTable",
        "Upgrade",
    ],
    "datasets": [
        "load_dataset",
        "load_splits",
        "with_classes",
        "scored_classnames",
        "read_classnames",
        "LabeledImages",
        "load_pairs",
        "load_valid_labels",
        "ImageTextPairs",
        "open_imagenet",
        "imagenet_classnames",
        "repaired_classnames",
        "synsets",
        "synset_names",
        "check_order",
        "check_readable",
        "labelled",
        "every_second",
    ],
    "models": ["load_model", "wrap_model"],
    "similarity": ["unit_norm", "top_k"],
    "retrieval": ["evaluate_retrieval", "RetrievalResult"],
    "multilabel": ["score_valid_labels", "ValidLabelResult"],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_found_from_the_top(module):
    place = operator.attrgetter(module)(clipnb) if module else clipnb
    for name in PUBLIC[module]:
        assert hasattr(place, name), name
    if module:
        assert module.split(".")[0] in clipnb.__all__ and module.split(".")[0] in dir(clipnb)


@pytest.mark.parametrize(
    "name, new",
    [
        ("twins", "duplicate_classnames"),
        ("near_twins", "near_duplicate_classnames"),
        ("too_long", "truncated_prompts"),
    ],
)
def test_functions_with_a_new_name_warn_and_work(name, new):
    with pytest.warns(DeprecationWarning, match=f"prompts.{name} has moved to clipnb.prompts.{new}"):
        old = getattr(clipnb.prompts, name)
    assert old is getattr(clipnb.prompts, new)


@pytest.mark.parametrize(
    "old, name, new",
    [
        ("comparison", "compare_methods", "clipnb.paper.methods"),
        ("reproduce", "run", "clipnb.paper.reproduce"),
        ("rehearsal", "make_benchmark", "clipnb.paper.rehearsal"),
        ("llm", "ask", "clipnb.describe.llm"),
        ("imagenet", "synsets", "clipnb.datasets"),
        ("ensemble", "find_worst", "clipnb.margin"),
        ("metrics", "mcnemar", "clipnb.intervals"),
        ("zeroshot", "evaluate", "clipnb.evaluation"),
    ],
)
def test_names_that_moved_warn_and_work(old, name, new):
    module = importlib.import_module(f"clipnb.{old}")
    assert getattr(clipnb, old) is module
    with pytest.warns(DeprecationWarning, match=re.escape(f"has moved to {new}.{name}")):
        moved = getattr(module, name)
    assert moved is getattr(importlib.import_module(new), name)


@pytest.mark.parametrize(
    "module, old, new",
    [
        ("methods", "Comparison", "MethodResults"),
        ("methods", "shown", "table_row"),
        ("rehearsal", "World", "PlantedBenchmark"),
        ("rehearsal", "make_world", "make_benchmark"),
    ],
)
def test_names_that_changed_warn_and_work(module, old, new):
    place = importlib.import_module(f"clipnb.paper.{module}")
    with pytest.warns(DeprecationWarning, match=re.escape(f"{old} is now clipnb.paper.{module}.{new}")):
        assert getattr(place, old) is getattr(place, new)


def test_signatures_are_those_of_the_public_face():
    def parameters(function):
        return list(inspect.signature(function).parameters)

    assert parameters(clipnb.load_model) == ["name", "pretrained", "device", "precision", "trust_pickle", "like"]
    assert parameters(clipnb.evaluate)[:4] == ["vectors", "classifier", "labels", "ks"]
    assert parameters(clipnb.evaluate_prompts)[:4] == ["vectors", "bank", "labels", "ks"]
    assert parameters(clipnb.evaluate_store)[:3] == ["folder", "classifier", "ks"]
    assert parameters(clipnb.zero_shot_classifier)[:3] == ["model", "classnames", "templates"]
    assert parameters(clipnb.margin.class_wise_matching_margin) == ["vectors", "classifier", "labels", "reduction"]
    assert parameters(clipnb.worst.worst_k_report)[:4] == ["predictions", "labels", "num_classes", "k"]
    assert parameters(clipnb.metrics.confusion_matrix)[:3] == ["predictions", "labels", "num_classes"]


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="evaluat"):
        _ = clipnb.evaluat
    assert not hasattr(clipnb, "nonsense") and issubclass(clipnb.InputError, ValueError)


def test_array_modules_load_neither_torch_nor_a_model():
    rooms = "metrics, worst, margin, ensemble, evaluation, explain, similarity, errors, prompts, describe, datasets"
    heavy = ("torch", "open_clip", "transformers", "matplotlib", "clipnb.models", "clipnb.encode")
    code = (
        f"import clipnb, sys; from clipnb import {rooms}; "
        "metrics.accuracy([0], [0]); worst.harmonic_mean([.5]); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n" and found.stderr == ""


def imported(name):
    """Other rooms of clipnb that the source of a module, or of all files of a wing, imports at any depth."""
    names = set()
    sources = sorted((PACKAGE / name).glob("*.py")) or [PACKAGE / f"{name}.py"]
    for node in (node for source in sources for node in ast.walk(ast.parse(source.read_text("utf-8")))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "clipnb":
            names |= {node.module.split(".")[1]} if "." in node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("clipnb.")}
    rooms = {HOMES.get(n, n) for n in names}
    assert not rooms & OLD, f"{name} imports an old place"
    return {room for room in rooms if room in FLOW} - {name}


def test_imports_run_one_way():
    rooms = {
        p.stem
        for p in PACKAGE.iterdir()
        if (p.suffix == ".py" and p.stem != "__init__") or (p / "__init__.py").is_file()
    }
    assert sorted(FLOW) == sorted(rooms - OLD)
    for position, name in enumerate(FLOW):
        assert imported(name) <= set(FLOW[:position]), name
    assert imported("evaluation") >= {"margin", "metrics", "similarity"}  # the reading itself works


@pytest.mark.parametrize("module", [m for m in ARRAYS if m != "_device"])
def test_array_modules_never_reach_the_rooms_that_need_a_model(module):
    assert imported(module) <= set(ARRAYS)
    if module != "plots":  # seaborn's own imports end where torch is a stand-in
        code = f"import sys; sys.modules['torch'] = None; import clipnb.{module}"
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", [m for m in FLOW if m not in ("cli", "plots", "widgets", "__main__")])
def test_every_public_function_is_documented(module):
    loaded = importlib.import_module(f"clipnb.{module}")
    for name, thing in vars(loaded).items():
        if inspect.isfunction(thing) and thing.__module__.startswith(loaded.__name__) and not name.startswith("_"):
            assert thing.__doc__, f"{module}.{name}"

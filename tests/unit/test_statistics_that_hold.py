"""Seven statistics that once failed in simulations of a known truth, and references from statsmodels and netcal.

Each simulation is small and seeded; `benchmarks/coverage.py` measures the same intervals on a larger scale.
"""

import numpy as np
import pytest
from scipy import stats

from clipnb import intervals, margin, metrics, worst
from clipnb.evaluation import EvaluationResult
from clipnb.paired import differences_of_predictions


def predictions_of(correct, images):
    """Predictions and labels in which class c has `correct[c]` correct ones of `images`."""
    labels = np.repeat(np.arange(len(correct)), images)
    right = np.tile(np.arange(images), len(correct)) < np.repeat(correct, images)
    return np.where(right, labels, (labels + 1) % len(correct)), labels


def result_of(correct, images):
    """An `EvaluationResult` with these predictions."""
    predictions, labels = predictions_of(correct, images)
    n = len(labels)
    classes = len(correct)
    return EvaluationResult(
        labels=labels,
        topk=predictions[:, None],
        topk_similarity=np.ones((n, 1), np.float32),
        margins=np.zeros(n, np.float32),
        rivals=np.zeros(n, np.int64),
        pseudo_margins=np.zeros(n, np.float32),
        ks=(1,),
        classifier=np.eye(classes, dtype=np.float32),
        vector_sums=np.zeros((2, classes, classes)),
    )


def covers(score, truth):
    return score.low <= truth <= score.high


@pytest.mark.parametrize("images", [1, 2, 3, 10])
def test_1_the_mean_per_class_accuracy_is_covered_with_few_images(images):
    """The bootstrap within classes covered 0 % with one image a class and 83 % with two; its variance lacked n - 1."""
    covered = []
    for seed in range(300):
        rng = np.random.default_rng([images, seed])
        truth = rng.beta(2, 1, 100)
        score = intervals.mean_over_classes(rng.binomial(images, truth), np.full(100, images))
        assert score.low < score.high
        covered.append(covers(score, truth.mean()))
    assert np.mean(covered) > 0.91  # two standard errors below 95 % are 92.5 %


def test_2_an_unchanged_tail_is_not_called_better():
    """The ten worst classes have 30 % under both methods and only the others improve, which was called "better"."""
    before = np.where(np.arange(200) < 10, 0.3, 0.5)
    after = np.where(np.arange(200) < 10, 0.3, 0.95)
    labels = np.repeat(np.arange(200), 10)
    changes, verdicts = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a, b = (np.where(rng.random(2000) < truth[labels], labels, (labels + 1) % 200) for truth in (after, before))
        naive = [
            worst.worst_k_accuracy(metrics.per_class_accuracy(metrics.confusion_matrix(p, labels, 200)), 10)
            for p in (a, b)
        ]
        changes.append(naive[0] - naive[1])
        difference = differences_of_predictions(a, b, labels, 200, k=10, seed=seed)
        assert "worst_10" not in difference  # the naive score gets no verdict at all
        unchanged = differences_of_predictions(a, b, labels, 200, k=10, flagged=np.arange(10), seed=seed)
        verdicts.append(unchanged["flagged_accuracy"]["verdict"])
    assert np.mean(changes) > 0.05  # the naive score still rises: that is why it gets none
    assert np.mean(np.array(verdicts) != "no") < 0.15  # 5 % aimed at


@pytest.mark.parametrize("images", [2, 3, 10])
def test_3_the_class_wise_margin_is_covered_with_few_images(images):
    """The bootstrap covered 51 % with two images a class and 75 % with three; Student's t covers 95 %."""
    rng = np.random.default_rng(5)
    text = rng.normal(size=(10, 32)) + 1
    text = (text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32)
    strength = rng.uniform(0.6, 2.5, 10)

    def draw(rng, count):
        labels = np.repeat(np.arange(10), count)
        vectors = strength[labels][:, None] * text[labels] + rng.normal(size=(10 * count, 32)) * 0.22 + 0.3
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels

    vectors, labels = draw(rng, 5000)
    truth = margin.class_wise_matching_margin(vectors, text, labels)
    covered = []
    for seed in range(30):
        vectors, labels = draw(np.random.default_rng([seed, images]), images)
        low, high = margin.margin_intervals(vectors, text, labels).T
        covered.append((low <= truth) & (truth <= high))
    assert np.mean(covered) > 0.92


def test_4_means_that_noise_lowers_have_no_interval():
    """Intervals of the harmonic and geometric mean and of the naive worst-k covered 0 to 60 %."""
    rng = np.random.default_rng(0)
    truth = rng.beta(2, 1, 40)
    result = result_of(rng.binomial(10, truth), 10)
    scores = result.scores()
    assert scores["harmonic_mean"].value < 1 / np.mean(1 / truth)  # the bias that an interval would not show
    assert not any(scores[name].has_interval for name in ("harmonic_mean", "geometric_mean", "worst_k"))
    assert scores["worst_k_truly_worst"].has_interval


@pytest.mark.parametrize("k", [1, 5, 10])
def test_5_five_captions_an_image_have_the_recall_of_the_papers(k):
    """The share of images for which any of the five captions is among the top k had no function."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(200), 5)
    similarity = rng.normal(size=(200, 1000))
    similarity[owner, np.arange(1000)] += 2.2
    relevant = owner == np.arange(200)[:, None]
    top = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    expected = (owner[top] == np.arange(200)[:, None]).any(axis=1).mean()
    assert metrics.hit_at_k(similarity, relevant, k) == pytest.approx(expected)
    assert metrics.retrieval_recall_at_k(similarity, relevant, k) < expected  # another score, under another name


@pytest.mark.parametrize("dead", [False, True])
def test_6_the_truly_worst_and_the_listed_classes_are_covered(dead):
    """One score stood for three: the truly worst ten, the ten that are listed, and ten chosen on half of the images."""
    worlds = []
    for seed in range(4):
        rng = np.random.default_rng([seed, dead])
        truth = rng.beta(5, 2, 100) * (rng.random(100) > 0.05) if dead else rng.beta(2, 1, 100)
        predictions, labels = predictions_of(rng.binomial(20, truth), 20)
        report = worst.worst_k_report(predictions, labels, 100, 10, splits=20, seed=seed)
        lowest = np.sort(truth)[:10].mean()
        listed = truth[report.classes].mean()
        worlds.append((covers(report.truly_worst, lowest), covers(report.listed, listed)))
        assert lowest <= listed and report.possible[0] <= lowest <= report.possible[1]
    assert np.mean(worlds, axis=0).min() >= 0.75  # 95 % aimed at; at least 3 of 4 in 98.6 % of such runs


@pytest.mark.parametrize("n", [9, 30, 100])
def test_7_few_disagreements_leave_an_interval(n):
    """No disagreement gave (0, 0) as a 95 % interval, and the bootstrap covered 36 % on nine images."""
    none = intervals.paired_difference(np.ones(n), np.ones(n))
    assert none.low < none.value == 0 < none.high
    covered = []
    for seed in range(400):
        only_a, only_b, _ = np.random.default_rng([seed, n]).multinomial(n, [0.05, 0.02, 0.93])
        covered.append(covers(intervals.paired_counts(only_a, only_b, n), 0.03))
    assert np.mean(covered) > 0.93


# References: the formulas of other packages


def statsmodels_proportion_confint(count, nobs, alpha, method):
    """`statsmodels.stats.proportion.proportion_confint` for the methods "wilson" and "beta" (Clopper and Pearson)."""
    if method == "beta":
        low = stats.beta.ppf(alpha / 2, count, nobs - count + 1) if count else 0.0
        high = stats.beta.isf(alpha / 2, count + 1, nobs - count) if count < nobs else 1.0
        return low, high
    crit = stats.norm.isf(alpha / 2)
    q = count / nobs
    denominator = 1 + crit**2 / nobs
    center = (q + crit**2 / (2 * nobs)) / denominator
    distance = crit * np.sqrt(q * (1 - q) / nobs + crit**2 / (4 * nobs**2)) / denominator
    return center - distance, center + distance


def test_proportions_are_those_of_statsmodels():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 500))
        count = int(rng.integers(0, n + 1))
        alpha = rng.choice([0.01, 0.05, 0.3])
        method = "beta" if min(count, n - count) < intervals.FEW else "wilson"
        expected = statsmodels_proportion_confint(count, n, alpha, method)
        score = intervals.proportion(count, n, 1 - alpha)
        assert (score.low, score.high) == pytest.approx(expected, abs=1e-9)
        expected = statsmodels_proportion_confint(count, n, alpha, "wilson")
        assert intervals.wilson_interval(count, n, 1 - alpha) == pytest.approx(expected, abs=1e-9)


def test_mcnemar_is_that_of_statsmodels():
    """`statsmodels.stats.contingency_tables.mcnemar(exact=True)`: a binomial test of the discordant pairs."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        a, b = rng.random((2, int(rng.integers(1, 300)))) < rng.random((2, 1))
        n1 = int((a & ~b).sum())
        n2 = int((b & ~a).sum())
        expected = min(1.0, 2 * sum(stats.binom.pmf(i, n1 + n2, 0.5) for i in range(min(n1, n2) + 1)))
        p, counts = intervals.mcnemar(a, b)
        assert counts == (n1, n2) and p == pytest.approx(expected, abs=1e-9)


def test_the_calibration_error_is_that_of_netcal():
    """`netcal.metrics.ECE(bins).measure`: gaps of a histogram, weighted by the share of samples in each bin."""
    rng = np.random.default_rng(2)
    for _ in range(100):
        n = int(rng.integers(1, 500))
        bins = int(rng.integers(1, 30))
        confidence = rng.random(n)
        correct = rng.random(n) < confidence
        edges = np.linspace(0, 1, bins + 1)
        count, _ = np.histogram(confidence, edges)
        sums, _ = np.histogram(confidence, edges, weights=confidence)
        hits, _ = np.histogram(confidence, edges, weights=correct.astype(float))
        used = count > 0
        expected = (np.abs(hits[used] / count[used] - sums[used] / count[used]) * count[used]).sum() / n
        assert metrics.expected_calibration_error(confidence, correct, bins) == pytest.approx(expected, abs=1e-9)

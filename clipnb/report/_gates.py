"""Gates: scores of a report that must not be missed."""

from __future__ import annotations

from collections.abc import Mapping

from clipnb._checks import require_attribute
from clipnb.errors import InputError

# Counts of failures, which a gate bounds from above; every other score is bounded from below.
LOWER_IS_BETTER = {
    "to_a_person_for_95",
    "classes_at_zero",
    "classes_at_zero_change",
    "classes_killed",
    "classes_lost_beyond_chance",
    "never_predicted",
    "unreadable",
}


def missed_gates(summary: Mapping, gates: Mapping[str, float]) -> list[str]:
    """Return a line for each score of a summary that misses its bound.

    Args:
        summary: of a `Report` or an `Upgrade`.
        gates: {score: bound}. A score misses its bound if it is lower, a count of failures (`classes_at_zero`,
            `classes_killed`, ...) if it is higher.

    Raises:
        InputError: a name is not a score of the summary, or the score has no value on these images.

    >>> missed_gates({"accuracy": 0.5, "classes_at_zero": 3}, {"accuracy": 0.4, "classes_at_zero": 2})
    ['classes_at_zero is 3, over 2']
    """
    require_attribute(summary, "summary", "get", "a report")
    require_attribute(gates, "gates", "items", "a dict of score and bound")
    missed = []
    for name, bound in gates.items():
        value = summary.get(name)
        if value is None and summary.get(f"{name}_ci"):
            low, high = summary[f"{name}_ci"]
            raise InputError(
                f"Expected --fail-under to name a score with a value, got {name!r}: with so few images a class, "
                f"only its "
                f"range is known, {low:.4g} to {high:.4g}"
            )
        if not isinstance(value, (int, float)):
            known = [key for key, score in summary.items() if isinstance(score, (int, float))]
            raise InputError(f"Expected --fail-under to name a score of this audit ({', '.join(known)}), got {name!r}")
        if name in LOWER_IS_BETTER and value > bound:
            missed.append(f"{name} is {value:.6g}, over {bound:g}")
        elif name not in LOWER_IS_BETTER and value < bound:
            missed.append(f"{name} is {value:.6g}, under {bound:g}")
    return missed

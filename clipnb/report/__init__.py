"""Audits of anyone's data: `audit`, the report it returns, the comparison of two audits, and gates."""

from typing import TYPE_CHECKING

from clipnb.report._card import model_card, write_model_card
from clipnb.report._gates import missed_gates
from clipnb.report._page import ReportPage
from clipnb.report._predictions import PredictionsReport, audit_predictions, compare_predictions
from clipnb.report._report import Report
from clipnb.report._runs import RunTable, tabulate
from clipnb.report._upgrade import Upgrade, compare

if TYPE_CHECKING:
    from clipnb.report._audit import audit

__all__ = [
    "PredictionsReport",
    "Report",
    "ReportPage",
    "RunTable",
    "Upgrade",
    "audit",
    "audit_predictions",
    "compare",
    "compare_predictions",
    "missed_gates",
    "model_card",
    "tabulate",
    "write_model_card",
]


def __getattr__(name: str) -> object:
    if name != "audit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clipnb.report._audit import audit  # the only one that needs a model

    return audit

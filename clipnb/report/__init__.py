"""Audits of anyone's data: `audit`, the report it returns, the comparison of two audits, and gates."""

from clipnb.report._audit import audit
from clipnb.report._gates import missed_gates
from clipnb.report._page import ReportPage
from clipnb.report._report import Report
from clipnb.report._upgrade import Upgrade, compare

__all__ = ["Report", "ReportPage", "Upgrade", "audit", "compare", "missed_gates"]

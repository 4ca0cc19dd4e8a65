"""Audits of anyone's data: `audit`, the report it returns, and the comparison of two audits."""

from clipnb.report._audit import audit
from clipnb.report._report import Report
from clipnb.report._upgrade import Upgrade, compare

__all__ = ["Report", "Upgrade", "audit", "compare"]

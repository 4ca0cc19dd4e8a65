"""The paper's experiment (arXiv 2310.03324): `methods` and controls, `reproduce`, and a synthetic `rehearsal`."""

from clipnb.paper import corrections, methods, rehearsal, reproduce, tails

__all__ = ["corrections", "methods", "rehearsal", "reproduce", "tails"]

"""The paper's experiment (arXiv 2310.03324): `methods` and controls, `reproduce`, and a `rehearsal` with planted answers."""

from clipnb.paper import methods, rehearsal, reproduce, tails

__all__ = ["methods", "rehearsal", "reproduce", "tails"]

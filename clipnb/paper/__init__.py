"""The paper's experiment (arXiv 2310.03324): `methods` and controls, `reproduce`, and a synthetic `rehearsal`."""

from clipnb.paper import methods, rehearsal, reproduce

__all__ = ["methods", "rehearsal", "reproduce"]

"""The old place of what is in `clipnb.paper.reproduce` now; it goes with the next version."""

from clipnb._moved import redirect

__getattr__ = redirect(__name__, "clipnb.paper.reproduce")

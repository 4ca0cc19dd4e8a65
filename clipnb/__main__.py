"""The command `clipnb`, also as `python -m clipnb`."""

import atexit
import gc
import os
import sys

from clipnb.cli import main

OBJECTS_A_COLLECTION = 10_000  # new ones before Python looks for unreachable cycles among them; its own choice is 700


def run() -> None:
    """Run the command line in a process of its own.

    A command that opens a network spent a third of its time on the search for cycles among what PyTorch, open_clip and
    transformers import, and on taking these modules apart at the end, although the memory is given back anyway.
    """
    gc.set_threshold(OBJECTS_A_COLLECTION)
    code: list[int] = []

    def end() -> None:
        """End the process, after threads and all that libraries do at an exit: what is registered first runs last."""
        if code:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            except (AttributeError, OSError, ValueError):  # a stream is closed or full: Python reports it
                return
            os._exit(code[0])

    atexit.register(end)
    try:
        main(prog_name="clipnb")
    except SystemExit as reason:
        if reason.code is None or isinstance(reason.code, int):
            code.append(reason.code or 0)
        raise


if __name__ == "__main__":
    run()

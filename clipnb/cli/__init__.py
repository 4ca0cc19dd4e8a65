"""The command line `clipnb`: options, output and exit codes; nothing is computed here.

Exit codes: 0 done; 1 a run failed; 2 unusable arguments or input (one line on stderr, a traceback only with --debug);
3 a score misses a bound that `--fail-under` sets; 130 interrupted.
"""

from clipnb.cli import _retrieval, commands  # noqa: F401 - registers the commands
from clipnb.cli._group import main

__all__ = ["main"]

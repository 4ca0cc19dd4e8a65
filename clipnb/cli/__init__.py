"""The command line `clipnb`: options, output and exit codes; nothing is computed here. One file holds one command.

Exit codes: 0 done; 1 a run failed; 2 unusable arguments or input (one line on stderr, a traceback only with --debug);
3 a score misses a bound that `--fail-under` sets; 130 interrupted.
"""

from clipnb.cli._audit import audit
from clipnb.cli._check import check
from clipnb.cli._describe import describe
from clipnb.cli._encode import encode
from clipnb.cli._ensemble import ensemble
from clipnb.cli._evaluate import evaluate
from clipnb.cli._group import main
from clipnb.cli._margin import margin
from clipnb.cli._reproduce import reproduce
from clipnb.cli._retrieval import retrieval
from clipnb.cli._table import table

__all__ = ["main"]

for _command in (check, encode, evaluate, margin, ensemble, describe, audit, retrieval, table, reproduce):
    main.add_command(_command)

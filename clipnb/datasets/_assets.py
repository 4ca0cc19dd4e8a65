"""Files that are shipped with clipnb, checked before they are used."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from clipnb.errors import InputError

ASSETS = Path(__file__).parents[1] / "assets"


@cache
def check_asset(file: Path) -> None:
    """Raise InputError unless a shipped file equals the released one byte by byte (`assets/SHA256SUMS`).

    >>> check_asset(ASSETS / "emoji" / "classes.json")
    """
    name = file.relative_to(ASSETS).as_posix()
    released = dict(line.split("  ")[::-1] for line in (ASSETS / "SHA256SUMS").read_text("utf-8").splitlines())
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"Cannot read {file}, which belongs to clipnb: {error.strerror}; install clipnb again"
        ) from None
    if digest != released.get(name):
        raise InputError(
            f"Expected {file} as it was released (SHA-256 {released.get(name, 'unknown')[:16]} ...), got another "
            f"content ({digest[:16]} ...): it is damaged or was changed; install clipnb again"
        )

"""Write clipnb/assets/SHA256SUMS, which the package checks its weights and images against when it reads them.

python -m tools.release.checksums        # after a file under clipnb/assets was made anew
"""

import hashlib
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "clipnb" / "assets"
CHECKED = ("*.safetensors", "*.parquet", "*.json")


def lines() -> str:
    """A line a file: its SHA-256 and its path, as sha256sum writes and checks them."""
    files = sorted(file for pattern in CHECKED for file in ASSETS.glob(f"*/{pattern}"))
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(ASSETS).as_posix()}\n" for file in files
    )


if __name__ == "__main__":
    (ASSETS / "SHA256SUMS").write_text(lines())

"""Reading and writing files: paths that are checked, text of bounded size, writes that are whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from clipnb._checks import format_value
from clipnb.errors import InputError

MAX_TEXT_BYTES = 512 * 2**20  # larger text files are refused before they are read


def path_of(value, name: str) -> Path:
    """Check that an argument can be the path of a file or folder, there or not.

    >>> path_of("a/b", "store").name
    'b'
    """
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        raise InputError(f"Expected `{name}` to be the path of a file or folder, got {format_value(value)}")
    try:
        Path(value).expanduser().exists()
    except (OSError, RuntimeError) as error:  # a name too long; ~ of nobody
        raise InputError(
            f"Expected `{name}` to be the path of a file or folder, got {format_value(value)}: {getattr(error, 'strerror', None) or error}"
        ) from None
    return Path(value)


def new_file(value, name: str) -> Path:
    """Check that an argument names a file that can be written: in a folder that exists, and not a folder itself.

    >>> new_file("a.json", "path").name
    'a.json'
    """
    path = path_of(value, name)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"Expected `{name}` to name a file in an existing folder, got {path}")
    return path


def read_text(file: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; one too large to be what it should be is refused unread.

    Raises:
        OSError, UnicodeDecodeError: as reading does; whoever asks says what was expected there.

    >>> len(read_text(Path(__file__))) > 1000
    True
    """
    if (size := file.stat().st_size) > max_bytes:
        raise InputError(f"Expected a file of at most {max_bytes / 2**20:.0f} MB in {file}, got {size / 2**20:.0f} MB")
    return file.read_text("utf-8-sig")


def write_atomically(path: Path, content) -> None:
    """Write bytes to a temporary file beside `path`, then rename: readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno:
            error.filename = str(path)  # "No space left on device" alone does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)

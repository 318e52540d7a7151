"""Files named on the command line."""

from __future__ import annotations

from pathlib import Path

from networks.errors import InputError


def existing_files(option: str, text: str) -> tuple[Path, ...]:
    """The files of a comma-separated option, as absolute paths. Raises InputError naming option and missing file."""
    paths = tuple(Path(part.strip()).expanduser() for part in text.split(",") if part.strip())
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{option}: {missing[0]}: no such file")
    return tuple(path.resolve() for path in paths)

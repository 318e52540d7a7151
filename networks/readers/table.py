"""Rows of a CSV file with a header, each with where it stands."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from networks.errors import InputError
from networks.readers.formats import open_maybe_gzip


def read_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """("FILE line N", cells by column), plain or gzipped. Raises InputError naming file, line and column."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        with open_maybe_gzip(path) as stream:
            text = stream.read().decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as defect:
        raise InputError(f"{path}: not readable: {defect}") from defect
    rows = csv.reader(text.splitlines())
    head = next(rows, [])
    missing = [name for name in needed if name not in head]
    if missing:
        raise InputError(f"{path} line 1: no column {missing[0]!r}")
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(head):
            raise InputError(f"{path} line {number}: {len(cells)} fields, the header has {len(head)}")
        yield f"{path} line {number}", dict(zip(head, cells, strict=True))

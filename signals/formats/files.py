"""Any file of signal plans: told by its content, read into a book, and written from one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.parsers import expat

from networks.errors import InputError
from networks.graph import Network
from networks.readers.formats import open_maybe_gzip
from signals.formats.book import PlanBook, Written
from signals.formats.document import book_from_json, book_to_json
from signals.formats.fields import readable
from signals.formats.gat1049 import book_from_gat1049, book_to_gat1049
from signals.formats.sheet import HEADINGS, book_from_sheet, book_to_sheet
from signals.formats.sumo import book_from_sumo, book_to_sumo

_ROOTS = {"additional": "sumo", "add": "sumo", "net": "sumo", "tlLogics": "sumo", "Message": "gat1049"}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a format may need beside the file: the net, the time of writing, the epoch of the programmes' second 0."""

    network: Network
    sent_at: datetime
    epoch_of_zero_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is read and written."""

    name: str
    ending: str
    read: Callable[[Path, Circumstances], PlanBook]
    write: Callable[[PlanBook, Circumstances], Written]


FORMATS: Mapping[str, Format] = {
    f.name: f
    for f in (
        Format("sumo", ".add.xml", lambda path, _: book_from_sumo(path), lambda book, _: book_to_sumo(book)),
        Format(
            "json",
            ".json",
            lambda path, now: book_from_json(path, epoch_of_zero_s=now.epoch_of_zero_s),
            lambda book, now: book_to_json(book, epoch_of_zero_s=now.epoch_of_zero_s),
        ),
        Format(
            "gat1049",
            ".gat.xml",
            lambda path, now: book_from_gat1049(path, now.network),
            lambda book, now: book_to_gat1049(book, now.network, sent_at=now.sent_at),
        ),
        Format(
            "csv",
            ".csv",
            lambda path, now: book_from_sheet(path, now.network),
            lambda book, now: book_to_sheet(book, now.network),
        ),
        Format(
            "csv-zh",
            ".zh.csv",
            lambda path, now: book_from_sheet(path, now.network),
            lambda book, now: book_to_sheet(book, now.network, chinese=True),
        ),
    )
}


def sniff(path: Path) -> str:
    """Name of the format of a file, by its content. Raises InputError when it is none of ours."""
    with readable(path), open_maybe_gzip(path) as stream:
        head = stream.read(4096)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<"):
        root = _root(path)
        if root not in _ROOTS:
            raise InputError(f"{path}: <{root}> begins neither a SUMO file nor a GA/T 1049 message")
        return _ROOTS[root]
    if start.startswith(b"{"):
        return "json"
    first = start.splitlines()[0] if start else b""
    for encoding in ("utf-8", "gb18030"):
        heading = first.decode(encoding, "replace").lower()
        if sum(name in heading for name in HEADINGS) > 3 or sum(name in heading for name in HEADINGS.values()) > 3:
            return "csv"
    raise InputError(f"{path}: no format of signal plans (known: {', '.join(FORMATS)})")


def format_of_name(path: Path) -> str:
    """The format that a file name asks for. Raises InputError when its ending says none."""
    for form in sorted(FORMATS.values(), key=lambda f: -len(f.ending)):
        if path.name.lower().endswith(form.ending):
            return form.name
    if path.suffix.lower() == ".xml":
        return "sumo"
    raise InputError(f"{path}: say --to, the ending is none of {', '.join(f.ending for f in FORMATS.values())}")


def read_book(path: Path, circumstances: Circumstances) -> PlanBook:
    """Read a file of any format. Raises InputError naming file, element and field."""
    return FORMATS[sniff(path)].read(path, circumstances)


def runs_once(path: Path) -> bool:
    """Whether a JSON document holds rolling plans, which are no programmes."""
    if sniff(path) != "json":
        return False
    try:
        plans = json.loads(path.read_bytes())["plans"]
        return any(plan["repeats"] is False for plan in plans)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _root(path: Path) -> str:
    """Name of the first element. Raises InputError where there is none, or the text before it is broken."""
    names: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: names.append(name) if not names else None
    with readable(path), open_maybe_gzip(path) as stream:
        while not names and (piece := stream.read(4096)):
            parser.Parse(piece)
        if not names:
            parser.Parse(b"", True)
    return names[0]

"""What every format needs: indices of named signals, numbers as people write them, XML without surprises."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.parsers import expat

from networks.errors import InputError
from networks.readers.formats import open_maybe_gzip

LETTERS = frozenset("rRgGyYuUosO")
LONGEST_S = 1e6  # no step or cycle is as long as this

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def index_of(signal_id: str, signal_index: Mapping[str, int], where: str = "") -> int:
    """Dense index of a signal. Raises InputError, after `where`, if the network has none of that name."""
    if signal_id not in signal_index:
        raise InputError(f"{where}: the network has no signal {signal_id!r}".removeprefix(": "))
    return signal_index[signal_id]


def number_text(value: float) -> str:
    """12 for 12.0, 12.5 for 12.5."""
    return str(int(value)) if value == int(value) else repr(float(value))


def seconds_of(text: str | None, where: str, *, least_s: float = -LONGEST_S, most_s: float = LONGEST_S) -> float:
    """A finite number of seconds within bounds. Raises InputError that begins with `where`."""
    try:
        value = float(text or "")
    except ValueError:
        raise InputError(f"{where}: {text!r} is no number of seconds") from None
    if not math.isfinite(value) or not least_s <= value <= most_s:
        raise InputError(f"{where}: {text} s is out of range")
    return value


def check_state(state: str | None, where: str) -> str:
    """A lamp state in SUMO's letters. Raises InputError that begins with `where`."""
    if not state:
        raise InputError(f"{where}: no lamps given")
    strange = sorted(set(state) - LETTERS)
    if strange:
        raise InputError(f"{where}: {strange[0]!r} in {state!r} is no lamp")
    return state


def iterate_xml(path: Path) -> Iterator[ET.Element]:
    """Elements of a plain or gzipped XML file as they end. Raises InputError naming the file when it is torn."""
    with readable(path), open_maybe_gzip(path) as stream:
        for _, element in ET.iterparse(stream):
            yield element


def member_of(value: object, name: str, where: str) -> Any:
    """A member of a decoded message. Raises InputError where the value is no object or has no such member."""
    if not isinstance(value, Mapping) or name not in value:
        raise InputError(f"{where}: lacks {name!r}")
    return value[name]


def rows_of(value: object, name: str, where: str) -> list[Any]:
    """A member that is a list and holds something."""
    rows = member_of(value, name, where)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{where}.{name}: is no list, or empty")
    return rows


def number_of(value: object, name: str, where: str) -> int:
    """A member that is a whole number."""
    number = member_of(value, name, where)
    if not isinstance(number, int):
        raise InputError(f"{where}.{name}: {number!r} is no whole number")
    return number


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what reading a torn, missing or foreign file raises into InputError."""
    try:
        yield
    except (ET.ParseError, expat.ExpatError, EOFError, zlib.error, OSError, LookupError, ValueError) as defect:
        raise InputError(f"{path}: not readable: {getattr(defect, 'strerror', None) or defect}") from defect


def xml_document(root: ET.Element) -> str:
    """The text of an XML document. Raises InputError for a name with a character that XML cannot carry."""
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    bad = _NOT_XML.search(text)
    if bad:
        raise InputError(f"a name holds the character {bad.group()!r}, which XML cannot carry")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'

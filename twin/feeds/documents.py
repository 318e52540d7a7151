"""What feeds that come as documents share: bytes -> text, JSON, XML or a table, and times as people write them."""

from __future__ import annotations

import csv
import io
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from networks.errors import MessageError
from twin.feeds.base import MALFORMED, Rejected, name_fields

M = TypeVar("M", bound=BaseModel)
P = TypeVar("P")
R = TypeVar("R")

MOST_ROWS = 100_000


def text_of(payload: bytes) -> str:
    """UTF-8 with or without byte order mark. Raises MessageError("malformed")."""
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MessageError(MALFORMED, "document: not UTF-8") from None


def json_of(payload: bytes) -> Any:
    """One JSON document. Raises MessageError("malformed")."""
    try:
        return from_json(payload)
    except ValueError:
        raise MessageError(MALFORMED, "document: not JSON") from None


def xml_of(payload: bytes) -> ET.Element:
    """The root of an XML document; one that declares types or entities is refused. Raises MessageError."""
    try:
        root: ET.Element = ElementTree.fromstring(payload, forbid_dtd=True)
    except (ET.ParseError, DefusedXmlException, ValueError, LookupError):
        raise MessageError(MALFORMED, "document: not XML, or with a document type") from None
    return root


def local_name(element: ET.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def children(element: ET.Element, name: str) -> list[ET.Element]:
    """Direct children of a name, whatever their namespace."""
    return [child for child in element if local_name(child) == name]


def child_text(element: ET.Element, name: str) -> str:
    """Text of the first child of a name, "" where there is none."""
    found = children(element, name)
    return (found[0].text or "").strip() if found else ""


def table_of(payload: bytes, columns: Mapping[str, bool], delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a CSV table with a header. `columns`: names that are read, True those that must be there.

    Raises MessageError("malformed") naming the column.
    """
    reader = csv.DictReader(io.StringIO(text_of(payload), newline=""), delimiter=delimiter)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        for name in columns:
            if columns[name] and name not in header:
                raise MessageError(MALFORMED, f"{name}: the table has no such column")
        rows: list[dict[str, str]] = []
        for row in reader:
            told = zip(header, row.values(), strict=False)
            rows.append({name: value.strip() for name, value in told if name in columns and isinstance(value, str)})
            if len(rows) > MOST_ROWS:
                raise MessageError(MALFORMED, f"document: more than {MOST_ROWS} rows")
    except csv.Error:
        raise MessageError(MALFORMED, "document: not a table of comma-separated values") from None
    return rows


def checked(model: type[M], value: object, where: str) -> M:
    """A value as a model. Raises MessageError("malformed") that begins with `where`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise MessageError(MALFORMED, f"{where}{name_fields(error)}") from None


def read_each(
    parts: Iterable[P], name: str, read: Callable[[P, str], R], keep: Callable[[P], bytes]
) -> tuple[list[R], list[Rejected]]:
    """What `read` makes of every part of a document; one that cannot be used costs only itself.

    `read` is told where the part stands, "NAME.3.", and raises MessageError; `keep` tells what quarantine gets of it.
    """
    read_ones: list[R] = []
    rejected: list[Rejected] = []
    for number, part in enumerate(parts):
        try:
            read_ones.append(read(part, f"{name}.{number}."))
        except MessageError as defect:
            rejected.append(Rejected(defect.reason, defect.detail, keep(part)))
    return read_ones, rejected


def json_part(value: object) -> bytes:
    """A part of a document as JSON."""
    return to_json(value, inf_nan_mode="constants")


def moment_of(text: str, *, zone_h: float | None = None) -> float:
    """UTC epoch of an ISO 8601 time, "2026-03-02 08:00:00" as well, or of a number of seconds or milliseconds.

    `zone_h`: hours east of Greenwich of times without a zone; None: such times are refused. Raises ValueError.
    """
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:
            if zone_h is None:
                raise ValueError("a time without a zone") from None
            when = when.replace(tzinfo=timezone(timedelta(hours=zone_h)))
        return _plausible(when.astimezone(UTC).timestamp())
    return _plausible(number / 1e3 if number > 1e11 else number)


def _plausible(at_s: float) -> float:
    if not (math.isfinite(at_s) and 0.0 < at_s < 1e11):
        raise ValueError("a time out of range")
    return at_s

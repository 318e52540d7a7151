"""What a feed adapter is: bytes -> validated report -> rows on the network.

Both halves judge, and say what they refuse: `decode` looks at the message alone, `place` holds it against the city.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from networks.errors import MessageError
from networks.messages import Frame

MAX_PAYLOAD_BYTES = 1 << 20
"""Longest message read; the largest honest one, 500 objects in one list, is 50 kB."""
MAX_NAME_LENGTH = 512

MALFORMED, UNKNOWN_ID, IMPOSSIBLE = "malformed", "unknown_id", "impossible"


class Rejected(NamedTuple):
    """One part of a message that cannot be used: a list row, or a field the rest can do without."""

    reason: str  # stable key for counting
    detail: str
    payload: bytes  # the part alone


R = TypeVar("R")
"""A report: has `measured_at`, when the street saw it."""

Row = TypeVar("Row", bound="tuple[Any, ...]")
M = TypeVar("M", bound=BaseModel)


class Decoded(NamedTuple, Generic[R]):
    """The validated reports of a frame, and the parts of it that were not valid.

    A document that speaks for several devices or moments holds several reports and names in `tellers` who tells each:
    such a report counts once a teller and moment, under whatever counter, however often the document is fetched.
    """

    reports: Sequence[R]
    rejected: Sequence[Rejected] = ()
    tellers: Sequence[str] = ()


class Placed(NamedTuple, Generic[Row]):
    """Rows ready for a batch, `measured_at_s` first and `available_at_s` second, and what had to be left out.

    Where speed matters the rows are one structured array with the same fields.
    """

    rows: Sequence[Row] | NDArray[Any]
    rejected: Sequence[Rejected] = ()


class Adapter(Protocol[R, Row]):
    """One feed of one city, in one format."""

    feed: str  # name of the frames that it reads: one of FEEDS, or of FORMATS
    delivers: str  # the one of FEEDS whose rows it makes
    own_clock: bool  # the source's own clock tells `measured_at` and the time sent, so that its error can be found
    lateness_s: float  # how long after `measured_at` a message may come in and still count
    expected_every_s: float  # longest honest pause of the whole feed; infinite: it speaks only when there is news
    source_every_s: float  # the same for each of its devices

    def decode(self, frame: Frame) -> Decoded[R]:
        """The reports in a frame. Keeps nothing. Raises MessageError naming the field."""
        ...

    def place(self, report: R, received_at_s: float) -> Placed[Row]:
        """The report's rows on dense indices, held against the city and against what was placed before."""
        ...


AnyAdapter: TypeAlias = Adapter[Any, Any]


def at_time(report: Any, measured_at: float) -> Any:
    """The same report, measured at another time."""
    if isinstance(report, BaseModel):
        return report.model_copy(update={"measured_at": measured_at})
    return report._replace(measured_at=measured_at)


def find_envelope_defect(frame: Frame) -> str:
    """What is wrong with a frame around its payload, whatever its feed; "" when nothing is."""
    feed, source, counter, sent_at_s, received_at_s, payload = cast("tuple[Any, ...]", frame)
    if not isinstance(payload, bytes):
        return "payload: not bytes"
    if len(payload) > MAX_PAYLOAD_BYTES:
        return f"payload: {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES}"
    if not isinstance(feed, str) or not isinstance(source, str):
        return "feed, source: not text"
    if len(feed) + len(source) > MAX_NAME_LENGTH or not (feed + source).isprintable():
        return "feed, source: too long or not printable"
    if not isinstance(counter, int) or not -(2**63) <= counter < 2**63:
        return "counter: not a whole number of 64 bits"
    if not isinstance(received_at_s, float | int) or not 0 < received_at_s < 1e11:
        return "received_at_s: not a time"
    if not isinstance(sent_at_s, float | int):
        return "sent_at_s: not a number"
    return ""


def decode_message(model: type[M], payload: bytes) -> M:
    """One JSON document as a model. Raises MessageError("malformed") naming the first bad field."""
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        raise MessageError(MALFORMED, name_fields(error)) from None


def decode_list(model: type[M], row_model: type[BaseModel], rows_field: str, payload: bytes) -> Decoded[M]:
    """One JSON document with a list of rows; a bad row is left out by itself.

    Raises MessageError("malformed") when anything outside the rows is wrong.
    """
    try:
        return Decoded((model.model_validate_json(payload),))
    except ValidationError as error:
        if any(len(e["loc"]) < 2 or e["loc"][0] != rows_field for e in error.errors(include_url=False)):
            raise MessageError(MALFORMED, name_fields(error)) from None
    document = from_json(payload)
    good: list[BaseModel] = []
    rejected: list[Rejected] = []
    for number, row in enumerate(document[rows_field]):
        try:
            good.append(row_model.model_validate(row))
        except ValidationError as error:
            rejected.append(Rejected(MALFORMED, f"{rows_field}.{number}.{name_fields(error)}", to_json(row)))
    return Decoded((model.model_validate({**document, rows_field: good}),), rejected)


def name_fields(error: ValidationError) -> str:
    """The first bad field, what is wrong with it, and how many more there are; never what the sender wrote there."""
    problems: list[ErrorDetails] = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    parts = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        parts[-1] = "(unknown field)"
    where = ".".join(parts) or "document"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {first['msg']}{more}"

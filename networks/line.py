"""How frames of devices, and orders for controllers and vehicles, travel over a broker.

C-V2X roadside units have topics and frames of their own (`day_one`). Everybody else publishes under
`citytwin/up/FEED/SOURCE` a head of one line, `{"counter": 17, "sent_at": 1772406000.25}`, and after the line break
the bytes of the message: a document of `messages`, or one in a format of others. Orders come under
`citytwin/down/plan/JUNCTION` and `citytwin/down/guidance`, as `messages.pack_order` packs them. Names that a topic
cannot hold are percent-encoded.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from networks.errors import MessageError
from networks.messages import Frame

UP, DOWN = "citytwin/up", "citytwin/down"
ALL_UP, ALL_DOWN = f"{UP}/+/+", f"{DOWN}/#"
GUIDANCE = f"{DOWN}/guidance"
_LONGEST_HEAD_BYTES = 256


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    counter: int = Field(ge=0, lt=2**63)
    sent_at: float = Field(gt=0, lt=1e11, allow_inf_nan=False)


def up_topic(feed: str, source: str) -> str:
    return f"{UP}/{quote(feed, safe='')}/{quote(source, safe='')}"


def own_topics(source: str) -> str:
    """Everything that one device publishes under."""
    return f"{UP}/+/{quote(source, safe='')}"


def plan_topic(junction: str) -> str:
    return f"{DOWN}/plan/{quote(junction, safe='')}"


def pack_frame(frame: Frame) -> bytes:
    """What goes under `up_topic(frame.feed, frame.source)`."""
    return f'{{"counter":{frame.counter},"sent_at":{frame.sent_at_s!r}}}\n'.encode() + frame.payload


def unpack_frame(topic: str, payload: bytes, received_at_s: float) -> Frame:
    """The frame that came under a topic. Raises MessageError("unknown_feed" | "malformed") naming what is wrong."""
    parts = topic.split("/")
    if len(parts) != 4 or "/".join(parts[:2]) != UP or not parts[2] or not parts[3]:
        raise MessageError("unknown_feed", f"topic: {topic[:60]!r} is none of ours")
    head, found, _ = payload[: _LONGEST_HEAD_BYTES + 1].partition(b"\n")
    if not found:
        raise MessageError("malformed", "head: no line break after it")
    try:
        known = _Head.model_validate_json(head)
    except ValidationError as defect:
        first = defect.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) if first["type"] != "extra_forbidden" else "(unknown field)"
        raise MessageError("malformed", f"head: {where or 'document'}: {first['msg']}") from None
    feed, source = unquote(parts[2]), unquote(parts[3])
    return Frame(feed, source, known.counter, known.sent_at, received_at_s, payload[len(head) + 1 :])

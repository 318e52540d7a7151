"""Day-I messages of Chinese C-V2X as bytes, and the frames and topics in which roadside units send them.

Messages: BSM, RSM, RSI, SPAT and MAP of T/CSAE-53 / YD/T 3709 (release of 2019-07-24) in unaligned packed encoding
(ITU-T X.691), by asn1tools over our own module `day_one.asn`. Values are those of asn1tools: a CHOICE is the pair
(name, value), a BIT STRING the pair (bytes, bits), an ENUMERATED its name.

Frame of a roadside unit: its name (8 bytes of ASCII, padded with zeros) | UTC in milliseconds (8 bytes,
little-endian) | for BSM only: how many messages (1 byte) | each message: length (2 bytes, little-endian), bytes.
Topics: `V2X.RSU.KIND.UP` towards the centre, `V2X.RSU.KIND.UNIT.DOWN` from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import asn1tools

from networks.errors import InputError, MessageError
from networks.messages import Frame

KINDS = {"bsmFrame": "BSM", "mapFrame": "MAP", "rsmFrame": "RSM", "spatFrame": "SPAT", "rsiFrame": "RSI"}
CHOICES = {kind: choice for choice, kind in KINDS.items()}
UP_KINDS = ("BSM", "SPAT", "RSI", "RSM", "MAP")
DOWN_KINDS = ("SPAT", "RSI", "RSM", "MAP")

SPEED_UNIT_MPS = 0.02
HEADING_UNIT_DEG = 0.0125
ANGLE_UNIT_DEG = 1e-7
NO_SPEED, NO_HEADING, NO_LATITUDE, NO_LONGITUDE = 8191, 28800, 900_000_001, 1_800_000_001
FAR_S = 30.0
"""Half a minute: two clocks that differ by more may disagree about the minute that a secMark counts in."""
LAST_MS = 60_999  # of a minute with a leap second; beyond: reserved, 65535 unavailable

_LONGEST_WAY_S = 86_400.0  # beyond a day the time sent is no clock's
_NAME_BYTES, _HEAD_BYTES = 8, 16
_MAX_MESSAGE_BYTES = 0xFFFF


class Envelope(NamedTuple):
    """One frame of a roadside unit."""

    unit: str
    sent_at_s: float  # by the unit's clock
    messages: tuple[bytes, ...]


def decode(payload: bytes) -> tuple[str, dict[str, Any]]:
    """Kind (a key of `CHOICES`) and value of one message; bytes after it are ignored, as the encoding has it.

    Raises MessageError("malformed").
    """
    try:
        choice, value = _codec().decode("MessageFrame", payload, check_constraints=True)
    except asn1tools.ConstraintsError as defect:
        raise MessageError("malformed", f"message: out of range, {defect}") from None
    except (asn1tools.DecodeError, *_CARELESS) as defect:
        raise MessageError("malformed", f"message: not a Day-I message, {str(defect)[:160]}") from None
    if choice not in KINDS:
        raise MessageError("malformed", "message: of a kind that later releases added")
    return KINDS[choice], value


def encode(kind: str, value: dict[str, Any]) -> bytes:
    """One message as bytes. Raises InputError for a value that the message cannot say."""
    try:
        encoded: bytes = _codec().encode("MessageFrame", (CHOICES[kind], value), check_constraints=True)
    except (asn1tools.EncodeError, asn1tools.ConstraintsError, *_CARELESS) as defect:
        raise InputError(f"{kind}: cannot be encoded, {defect}") from None
    return encoded


def pack_envelope(unit: str, sent_at_s: float, kind: str, messages: Sequence[bytes]) -> bytes:
    """A frame as a roadside unit sends it. Raises InputError naming what does not fit into one."""
    name = unit.encode("ascii", "replace")
    if not 0 < len(name) <= _NAME_BYTES or not unit.isascii() or "\0" in unit:
        raise InputError(f"unit {unit!r}: 1 to {_NAME_BYTES} ASCII characters")
    if kind == "BSM":
        if not 0 < len(messages) < 256:
            raise InputError(f"BSM: {len(messages)} messages, a frame holds 1 to 255")
        count = bytes([len(messages)])
    else:
        if len(messages) != 1:
            raise InputError(f"{kind}: {len(messages)} messages, a frame holds one")
        count = b""
    longest = max(len(m) for m in messages)
    if longest > _MAX_MESSAGE_BYTES:
        raise InputError(f"{kind}: a message of {longest} bytes, at most {_MAX_MESSAGE_BYTES}")
    parts = [len(m).to_bytes(2, "little") + m for m in messages]
    milliseconds = round(sent_at_s * 1e3)
    return name.ljust(_NAME_BYTES, b"\0") + milliseconds.to_bytes(8, "little") + count + b"".join(parts)


def unpack_envelope(kind: str, payload: bytes) -> Envelope:
    """The messages in a frame. Raises MessageError("malformed") naming the field."""
    if len(payload) < _HEAD_BYTES:
        raise MessageError("malformed", f"frame: {len(payload)} bytes, its head alone has {_HEAD_BYTES}")
    name = payload[:_NAME_BYTES].rstrip(b"\0")
    if not name.isascii() or not name.decode("ascii").isprintable() or not name:
        raise MessageError("malformed", "frame: the unit's name is not printable ASCII")
    sent_at_s = int.from_bytes(payload[_NAME_BYTES:_HEAD_BYTES], "little") / 1e3
    if not 0 < sent_at_s < 1e11:
        raise MessageError("malformed", "frame: the unit's time is none")
    at, count = _HEAD_BYTES, 1
    if kind == "BSM":
        if len(payload) == at:
            raise MessageError("malformed", "frame: the number of messages is missing")
        at, count = at + 1, payload[at]
    messages: list[bytes] = []
    for number in range(count):
        begin = at + 2
        at = begin + int.from_bytes(payload[begin - 2 : begin], "little")
        if begin > len(payload) or at > len(payload):
            raise MessageError("malformed", f"frame: message {number + 1} of {count} is cut off")
        messages.append(payload[begin:at])
    if at != len(payload):
        raise MessageError("malformed", f"frame: {len(payload) - at} bytes after its last message")
    return Envelope(name.decode("ascii"), sent_at_s, tuple(messages))


def frames_of(kind: str, payload: bytes, received_at_s: float) -> tuple[Frame, ...]:
    """The messages of a roadside unit's frame, each a `Frame` of its own for the inbox.

    A vehicle's message has the vehicle as its source, so that the same one heard by two units counts once; any other
    has the unit. The counter is the message's own (0..127). Raises MessageError("malformed") naming the field.
    """
    envelope = unpack_envelope(kind, payload)
    frames = []
    for message in envelope.messages:
        counter, vehicle = _counter_of(kind, message)
        source = vehicle if kind == "BSM" else envelope.unit
        frames.append(Frame(kind.lower(), source, counter, envelope.sent_at_s, received_at_s, message))
    return tuple(frames)


def identity_of(message: bytes) -> str:
    """The sender's identity in a BSM, 16 hexadecimal digits; "" when it is cut off."""
    return _counter_of("BSM", message)[1]


def with_identity(message: bytes, identity: bytes) -> bytes:
    """A BSM with another identity (8 bytes) in the place of its own; the message must be long enough to hold one."""
    bits = int.from_bytes(message, "big")
    shift = 8 * len(message) - _IDENTITY_BIT - 64
    bits ^= (bits >> shift & (2**64 - 1) ^ int.from_bytes(identity, "big")) << shift
    return bits.to_bytes(len(message), "big")


def up_topic(kind: str) -> str:
    return f"V2X.RSU.{kind}.UP"


def down_topic(kind: str, unit: str) -> str:
    return f"V2X.RSU.{kind}.{unit}.DOWN"


def kind_of_topic(topic: str) -> str:
    """The kind of message that comes in under a topic. Raises MessageError("unknown_feed") for any other topic."""
    parts = topic.split(".")
    if len(parts) != 4 or parts[:2] != ["V2X", "RSU"] or parts[3] != "UP" or parts[2] not in UP_KINDS:
        raise MessageError("unknown_feed", f"topic: {topic[:60]!r} is none of ours")
    return parts[2]


def moment_near(frame: Frame) -> float:
    """A moment within half a minute of a frame's message: when it was sent, or received where that is no time.

    A frame may have been under way for long; but none was sent in the future.
    """
    plausible = -FAR_S < frame.received_at_s - frame.sent_at_s < _LONGEST_WAY_S
    return frame.sent_at_s if plausible else frame.received_at_s


def nearest_second(second_ms: int, near_s: float) -> float:
    """The moment nearest to `near_s` whose milliseconds in the minute are `second_ms`; NaN when it says none.

    Ambiguous only when the two clocks are half a minute apart.
    """
    if second_ms > LAST_MS:
        return math.nan
    within_s = second_ms / 1e3
    return within_s + 60.0 * math.floor((near_s - within_s) / 60.0 + 0.5)


def from_minute_of_year(minute: int, second_ms: int, near_s: float) -> float:
    """The moment of a minute of the year and milliseconds in it, in the year that brings it nearest to `near_s`."""
    moments = [start_s + 60.0 * minute + second_ms / 1e3 for start_s in _year_starts(near_s)]
    return min(moments, key=lambda moment: abs(moment - near_s))


def _year_starts(near_s: float) -> tuple[float, ...]:
    year = datetime.fromtimestamp(near_s, UTC).year
    return tuple(datetime(y, 1, 1, tzinfo=UTC).timestamp() for y in (year - 1, year, year + 1))


def _counter_of(kind: str, message: bytes) -> tuple[int, str]:
    """msgCnt and, of a BSM, the sender's identity, read where the encoding puts them; 0 and "" when cut off.

    After the frame's extension bit and choice (4 bits) come the message's extension bit, one bit an optional
    component, and msgCnt (7 bits); in a BSM the identity follows.
    """
    start = 4 + 1 + _OPTIONALS[kind]
    bits = int.from_bytes(message[:12], "big")
    length = 8 * len(message[:12])
    if length < start + 7:
        return 0, ""
    counter = bits >> (length - start - 7) & 0x7F
    if kind != "BSM" or length < start + 7 + 64:
        return counter, ""
    return counter, f"{bits >> (length - start - 71) & (2**64 - 1):016x}"


_IDENTITY_BIT = 4 + 1 + 7 + 7
_OPTIONALS = {"BSM": 7, "MAP": 1, "RSM": 0, "SPAT": 3, "RSI": 3}
_CARELESS = (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, NotImplementedError)
"""What asn1tools lets through, besides its own errors, on bytes and values that fit no rule (found by fuzzing)."""


@lru_cache(maxsize=1)
def _codec() -> Any:
    return asn1tools.compile_files(str(Path(__file__).with_name("day_one.asn")), "uper")

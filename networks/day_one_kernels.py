"""Reads the bits of Day-I messages that come in masses: RSM, BSM and SPAT. Imports numba and numpy, nothing else.

ITU-T X.691, unaligned: constrained integers in as few bits as their range needs, one bit an optional component, no
alignment anywhere. Layout after the message's definition in `day_one.asn`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

MOST_PARTICIPANTS = 16
ABSENT = -1

# Columns of a participant.
KIND, NUMBER, SOURCE, SECOND_MS, LATITUDE, LONGITUDE, SPEED, HEADING, WIDTH, LENGTH, CLASS = range(11)
COLUMNS = 11

# Columns of the head.
COUNTER, REF_LATITUDE, REF_LONGITUDE, NAMED = range(4)
HEAD_COLUMNS = 4

# Answers besides the number of participants.
EXTENDED, CUT_OFF, OUT_OF_RANGE = 0, -1, -2
OPEN = 1

_MOST_BITS = 57  # in one read: eight bytes less the bits before the first


@njit(cache=True)
def _bits(data: NDArray[np.uint8], at: int, count: int) -> int:
    """`count` bits (at most 57) from bit `at`, most significant first; the caller has checked the end."""
    value = np.int64(0)
    first, last = at >> 3, (at + count - 1) >> 3
    for i in range(first, last + 1):
        value = (value << 8) | np.int64(data[i])
    shifted = value >> (((last + 1) << 3) - at - count)
    return int(shifted & ((np.int64(1) << count) - 1))


@njit(cache=True)
def _confidence_bits(data: NDArray[np.uint8], at: int) -> int:
    """Length of a set of confidences in speed, heading and steering, each of which may be absent."""
    told = _bits(data, at, 3)
    return 3 + 3 * (told >> 2) + 3 * (told >> 1 & 1) + 2 * (told & 1)


@njit(cache=True)
def _is_acceleration(data: NDArray[np.uint8], at: int) -> bool:
    """Are the next 48 bits accelerations along, across and up, and a yaw rate, each within its range?"""
    if _bits(data, at, 12) > 4001 or _bits(data, at + 12, 12) > 4001:
        return False
    return _bits(data, at + 24, 8) <= 254 and _bits(data, at + 32, 16) <= 65534


@njit(cache=True)
def _opening(data: NDArray[np.uint8], kind: int) -> int:
    """OPEN where a MessageFrame of this choice begins, or EXTENDED, CUT_OFF, OUT_OF_RANGE."""
    if data.shape[0] * 8 < 5:
        return CUT_OFF
    if _bits(data, 0, 1) == 1:
        return EXTENDED
    return OPEN if _bits(data, 1, 3) == kind else OUT_OF_RANGE


@njit(cache=True)
def read_rsm(data: NDArray[np.uint8], head: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    """Read one message; the number of participants, or EXTENDED, CUT_OFF, OUT_OF_RANGE.

    data  (B,)        the message, MessageFrame and all
    head  (4,)        written: msgCnt, latitude and longitude of the reference, participants that carry an identity
    rows  (16, 11)    written: one row a participant, columns KIND.. as the message's own integers; positions are
                      absolute, CLASS is ABSENT where the message has none

    EXTENDED: a component of a later release is in it, which only a general decoder can step over.
    """
    end = data.shape[0] * 8
    opening = _opening(data, 2)
    if opening != OPEN:
        return opening
    if _bits(data, 4, 1) == 1:
        return EXTENDED
    if end < 5 + 7 + 64 + 1 + 31 + 32:
        return CUT_OFF
    at = 5
    head[COUNTER] = _bits(data, at, 7)
    at += 7 + 64
    raised = _bits(data, at, 1)
    head[REF_LATITUDE] = _bits(data, at + 1, 31) - 900000000
    head[REF_LONGITUDE] = _bits(data, at + 32, 32) - 1799999999
    head[NAMED] = 0
    at += 64 + 16 * raised
    if head[REF_LATITUDE] > 900000001 or head[REF_LONGITUDE] > 1800000001:
        return OUT_OF_RANGE
    if end < at + 4:
        return CUT_OFF
    count = _bits(data, at, 4) + 1
    at += 4
    for n in range(count):
        at = _read_participant(data, at, end, head, rows[n])
        if at < 0:
            return at
        if at == EXTENDED:
            return EXTENDED
    return count


@njit(cache=True)
def _read_participant(
    data: NDArray[np.uint8], at: int, end: int, head: NDArray[np.int64], row: NDArray[np.int64]
) -> int:
    """Read one participant into a row; where the next begins, or EXTENDED, CUT_OFF, OUT_OF_RANGE."""
    if end < at + 7 + 4 + 16 + 4:
        return CUT_OFF
    if _bits(data, at, 1) == 1:
        return EXTENDED
    present = _bits(data, at + 1, 6)
    named, geared, steered, sure, pushed, classed = (
        present >> 5,
        present >> 4 & 1,
        present >> 3 & 1,
        present >> 2 & 1,
        present >> 1 & 1,
        present & 1,
    )
    at += 7
    if _bits(data, at, 1) == 1:
        return EXTENDED
    row[KIND] = _bits(data, at + 1, 3)
    if row[KIND] > 4:
        return OUT_OF_RANGE
    row[NUMBER] = _bits(data, at + 4, 16)
    at += 20
    if _bits(data, at, 1) == 1:
        return EXTENDED
    row[SOURCE] = _bits(data, at + 1, 3)
    at += 4 + 64 * named
    head[NAMED] += named
    if end < at + 16 + 4:
        return CUT_OFF
    row[SECOND_MS] = _bits(data, at, 16)
    at += 16
    at = _read_position(data, at, end, head, row)
    if at < 0:
        return at
    if end < at + 5:
        return CUT_OFF
    at += 5 + 4 * _bits(data, at, 1)  # confidence of position, and of elevation
    at += 3 * geared
    if end < at + 28:
        return CUT_OFF
    row[SPEED] = _bits(data, at, 13)
    row[HEADING] = _bits(data, at + 13, 15)
    at += 28
    if row[HEADING] > 28800:
        return OUT_OF_RANGE
    if steered:
        if end < at + 8:
            return CUT_OFF
        if _bits(data, at, 8) > 253:
            return OUT_OF_RANGE
        at += 8
    if sure:
        if end < at + 3:
            return CUT_OFF
        at += _confidence_bits(data, at)
    if pushed:
        if end < at + 48:
            return CUT_OFF
        if not _is_acceleration(data, at):
            return OUT_OF_RANGE
        at += 48
    if end < at + 23:
        return CUT_OFF
    tall = _bits(data, at, 1)
    row[WIDTH] = _bits(data, at + 1, 10)
    row[LENGTH] = _bits(data, at + 11, 12)
    at += 23 + 7 * tall
    row[CLASS] = ABSENT
    if classed:
        if end < at + 10:
            return CUT_OFF
        if _bits(data, at, 1) == 1:
            return EXTENDED
        fuelled = _bits(data, at + 1, 1)
        row[CLASS] = _bits(data, at + 2, 8)
        at += 10 + 4 * fuelled
    return CUT_OFF if end < at else at


@njit(cache=True)
def _read_position(
    data: NDArray[np.uint8], at: int, end: int, head: NDArray[np.int64], row: NDArray[np.int64]
) -> int:
    """Read a position, relative or absolute, into a row as absolute; where the next component begins."""
    raised = _bits(data, at, 1)
    choice = _bits(data, at + 1, 3)
    at += 4
    if choice == 7:
        return OUT_OF_RANGE
    if choice == 6:
        if end < at + 63:
            return CUT_OFF
        row[LONGITUDE] = _bits(data, at, 32) - 1799999999
        row[LATITUDE] = _bits(data, at + 32, 31) - 900000000
        at += 63
        if row[LATITUDE] > 900000001 or row[LONGITUDE] > 1800000001:
            return OUT_OF_RANGE
    else:
        width = 12 + 2 * choice
        if choice >= 4:
            width += 2
        if end < at + 2 * width:
            return CUT_OFF
        half = np.int64(1) << (width - 1)
        row[LONGITUDE] = head[REF_LONGITUDE] + _bits(data, at, width) - half
        row[LATITUDE] = head[REF_LATITUDE] + _bits(data, at + width, width) - half
        at += 2 * width
    if raised:
        if end < at + 3:
            return CUT_OFF
        step = _bits(data, at, 3)
        if step == 7:
            return OUT_OF_RANGE
        at += 3 + (16 if step == 6 else 7 + step)
    return CUT_OFF if end < at else at


# Fields of a vehicle's own message.
(
    OWN_COUNTER,
    OWN_SECOND_MS,
    OWN_LATITUDE,
    OWN_LONGITUDE,
    OWN_SPEED,
    OWN_HEADING,
    OWN_WIDTH,
    OWN_LENGTH,
    OWN_CLASS,
) = range(9)
OWN_FIELDS = 9
IDENTITY_BIT = 4 + 1 + 7 + 7
"""Where a BSM's identity of 64 bits begins."""


@njit(cache=True)
def read_bsm(data: NDArray[np.uint8], own: NDArray[np.int64]) -> int:
    """Read a vehicle's own message up to its class; 1, or EXTENDED, CUT_OFF, OUT_OF_RANGE.

    data  (B,)  the message, MessageFrame and all
    own   (9,)  written: fields OWN_COUNTER.. as the message's own integers

    What follows the class (path history, lights, sirens) is not looked at, good or bad.
    """
    end = data.shape[0] * 8
    opening = _opening(data, 0)
    if opening != OPEN:
        return opening
    at = IDENTITY_BIT
    if end < at + 64 + 16 + 6 + 64:
        return CUT_OFF
    present = _bits(data, 5, 7)
    own[OWN_COUNTER] = _bits(data, 12, 7)
    at += 64
    own[OWN_SECOND_MS] = _bits(data, at, 16)
    at += 16
    if present >> 6 & 1:
        if _bits(data, at, 6) > 39:
            return OUT_OF_RANGE
        at += 6
    raised = _bits(data, at, 1)
    own[OWN_LATITUDE] = _bits(data, at + 1, 31) - 900000000
    own[OWN_LONGITUDE] = _bits(data, at + 32, 32) - 1799999999
    at += 64 + 16 * raised
    if own[OWN_LATITUDE] > 900000001 or own[OWN_LONGITUDE] > 1800000001:
        return OUT_OF_RANGE
    at += 32 * (present >> 5 & 1)
    if present >> 4 & 1:
        if end < at + 5:
            return CUT_OFF
        at += 5 + 4 * _bits(data, at, 1)
    at += 3
    if end < at + 28:
        return CUT_OFF
    own[OWN_SPEED] = _bits(data, at, 13)
    own[OWN_HEADING] = _bits(data, at + 13, 15)
    at += 28
    if own[OWN_HEADING] > 28800:
        return OUT_OF_RANGE
    if end < at + 8 + 3 + 48 + 7:
        return CUT_OFF
    if present >> 3 & 1:
        if _bits(data, at, 8) > 253:
            return OUT_OF_RANGE
        at += 8
    if present >> 2 & 1:
        at += _confidence_bits(data, at)
    if end < at + 48 + 7:
        return CUT_OFF
    if not _is_acceleration(data, at):
        return OUT_OF_RANGE
    at += 48
    braked = _bits(data, at, 7)
    at += 7
    if end < at + 17:
        return CUT_OFF
    for component in range(7):
        if braked >> (6 - component) & 1:
            if component == 1:
                at += 5
            else:
                if component in (0, 5) and _bits(data, at, 2) == 3:
                    return OUT_OF_RANGE
                at += 2
    if end < at + 23:
        return CUT_OFF
    tall = _bits(data, at, 1)
    own[OWN_WIDTH] = _bits(data, at + 1, 10)
    own[OWN_LENGTH] = _bits(data, at + 11, 12)
    at += 23 + 7 * tall
    if end < at + 10:
        return CUT_OFF
    if _bits(data, at, 1) == 1:
        return EXTENDED
    own[OWN_CLASS] = _bits(data, at + 2, 8)
    return 1


# A SPAT message: columns of the head, of an intersection and of a phase.
SPAT_COUNTER, SPAT_MINUTE, SPAT_SECOND_MS = range(3)
SPAT_HEAD = 3
REGION, NODE, MINUTE, MILLISECONDS, PHASES = range(5)
INTERSECTION_COLUMNS, MOST_INTERSECTIONS = 5, 32
PHASE, LIGHT = range(2)
PHASE_COLUMNS, MOST_PHASES = 2, 16 * 32


@njit(cache=True)
def read_spat(
    data: NDArray[np.uint8],
    head: NDArray[np.int64],
    intersections: NDArray[np.int64],
    phases: NDArray[np.int64],
) -> int:
    """Read one message; the number of intersections, or EXTENDED, CUT_OFF, OUT_OF_RANGE.

    data           (B,)      the message, MessageFrame and all
    head           (3,)      written: msgCnt, minute of the year and milliseconds, ABSENT where not told
    intersections  (32, 5)   written: region, node, its own minute and milliseconds, ABSENT where not told; how many
                             phases it has
    phases         (512, 2)  written, one intersection after the other: number, and the LightState that it shows now,
                             ABSENT where the message does not say: the first light whose countdown has begun, or the
                             only one when that has no countdown
    """
    end = data.shape[0] * 8
    opening = _opening(data, 3)
    if opening != OPEN:
        return opening
    if _bits(data, 4, 1) == 1:
        return EXTENDED
    if end < 5 + 3 + 7:
        return CUT_OFF
    present = _bits(data, 5, 3)
    head[SPAT_COUNTER] = _bits(data, 8, 7)
    at = _read_moment(data, 15, end, present >> 2, present >> 1 & 1, head, SPAT_MINUTE)
    if at < 0:
        return at
    if present & 1:
        if end < at + 6:
            return CUT_OFF
        length = _bits(data, at, 6)
        if length > 62:
            return OUT_OF_RANGE
        at += 6 + 7 * (length + 1)
    if end < at + 5:
        return CUT_OFF
    count = _bits(data, at, 5) + 1
    at += 5
    written = 0
    for n in range(count):
        row = intersections[n]
        if end < at + 4 + 1:
            return CUT_OFF
        if _bits(data, at, 1) == 1:
            return EXTENDED
        present = _bits(data, at + 1, 3)
        placed = _bits(data, at + 4, 1)
        at += 5
        if end < at + 16 * placed + 32:
            return CUT_OFF
        row[REGION] = _bits(data, at, 16) if placed else ABSENT
        at += 16 * placed
        row[NODE] = _bits(data, at, 16)
        at += 32  # and the status
        at = _read_moment(data, at, end, present >> 2, present >> 1 & 1, row, MINUTE)
        if at < 0:
            return at
        if present & 1:
            if end < at + 6:
                return CUT_OFF
            if _bits(data, at, 6) > 39:
                return OUT_OF_RANGE
            at += 6
        if end < at + 4:
            return CUT_OFF
        row[PHASES] = _bits(data, at, 4) + 1
        at += 4
        for _ in range(row[PHASES]):
            at = _read_phase(data, at, end, phases[written])
            if at <= 0:
                return at
            written += 1
    return count


@njit(cache=True)
def _read_moment(
    data: NDArray[np.uint8], at: int, end: int, has_minute: int, has_second: int, row: NDArray[np.int64], column: int
) -> int:
    """Read an optional minute of the year and optional milliseconds into two columns; where the next begins."""
    row[column] = row[column + 1] = ABSENT
    if end < at + 20 * has_minute + 16 * has_second:
        return CUT_OFF
    if has_minute:
        row[column] = _bits(data, at, 20)
        at += 20
        if row[column] > 527040:
            return OUT_OF_RANGE
    if has_second:
        row[column + 1] = _bits(data, at, 16)
        at += 16
    return at


@njit(cache=True)
def _read_phase(data: NDArray[np.uint8], at: int, end: int, row: NDArray[np.int64]) -> int:
    """Read one phase into a row; where the next begins, or EXTENDED, CUT_OFF, OUT_OF_RANGE."""
    if end < at + 12:
        return CUT_OFF
    row[PHASE] = _bits(data, at, 8)
    count = _bits(data, at + 8, 4) + 1
    at += 12
    row[LIGHT] = ABSENT
    for _ in range(count):
        if end < at + 7:
            return CUT_OFF
        if _bits(data, at, 1) == 1 or _bits(data, at + 2, 1) == 1:
            return EXTENDED
        timed = _bits(data, at + 1, 1)
        light = _bits(data, at + 3, 4)
        at += 7
        if light > 8:
            return OUT_OF_RANGE
        begun = False
        if timed:
            if end < at + 2 + 5 + 32:
                return CUT_OFF
            if _bits(data, at, 1) == 1:
                return EXTENDED
            counts_down = _bits(data, at + 1, 1) == 0
            present = _bits(data, at + 2, 5)
            at += 7
            start = _bits(data, at, 16)
            # Times in order: start, min end, max end, likely end; then a confidence; then next start, next end.
            marks = 2 + (present >> 4) + (present >> 3 & 1)
            later = (present >> 1 & 1) + (present & 1)
            sure = present >> 2 & 1
            if end < at + 16 * (marks + later) + 8 * sure:
                return CUT_OFF
            for _ in range(marks):
                if _bits(data, at, 16) > 36001:
                    return OUT_OF_RANGE
                at += 16
            if sure:
                if _bits(data, at, 8) > 200:
                    return OUT_OF_RANGE
                at += 8
            for _ in range(later):
                if _bits(data, at, 16) > 36001:
                    return OUT_OF_RANGE
                at += 16
            begun = counts_down and start == 0
            if not counts_down and count == 1:
                begun = True
        elif count == 1:
            begun = True
        if begun and row[LIGHT] == ABSENT:
            row[LIGHT] = light
    return at


# Columns of a described participant.
MEASURED_S, LON_DEG, LAT_DEG, SPEED_MPS, HEADING_RAD, ROAD_USER = range(6)
DESCRIBED_COLUMNS = 6

# Verdicts on a participant.
USABLE, NO_SECOND, NO_POSITION, NO_SPEED, NO_HEADING, NOT_ON_ROAD = range(6)

_CAR, _BUS, _TRUCK, _BICYCLE, _PEDESTRIAN, _EMERGENCY = range(6)  # VEHICLE_KINDS


@njit(cache=True)
def describe(
    rows: NDArray[np.int64],
    count: int,
    near_s: float,
    north_rad: float,
    out: NDArray[np.float64],
    verdict: NDArray[np.int64],
) -> float:
    """Say in our units what participants do; the newest moment at which one was seen, NaN when none is usable.

    rows      (16, 11)   of `read_rsm`, the first `count` of them
    near_s    float      a moment near the message, for the minute that secMark counts in
    north_rad float      direction of true north
    out       (16, 6)    written: columns MEASURED_S..ROAD_USER
    verdict   (16,)      written: USABLE, or what the participant lacks
    """
    newest_s = np.nan
    for i in range(count):
        out[i, LON_DEG] = rows[i, LONGITUDE] * 1e-7
        out[i, LAT_DEG] = rows[i, LATITUDE] * 1e-7
        out[i, SPEED_MPS] = rows[i, SPEED] * 0.02
        turned = north_rad - rows[i, HEADING] * 0.0125 * np.pi / 180.0
        out[i, HEADING_RAD] = turned - 2.0 * np.pi * np.floor((turned + np.pi) / (2.0 * np.pi))
        within_s = rows[i, SECOND_MS] * 1e-3
        out[i, MEASURED_S] = within_s + 60.0 * np.floor((near_s - within_s) / 60.0 + 0.5)
        user = _road_user(rows[i, KIND], rows[i, CLASS])
        out[i, ROAD_USER] = user
        if user < 0:
            verdict[i] = NOT_ON_ROAD
        elif rows[i, SECOND_MS] > 60999:
            verdict[i] = NO_SECOND
        elif abs(rows[i, LATITUDE]) > 900000000 or abs(rows[i, LONGITUDE]) > 1800000000:
            verdict[i] = NO_POSITION
        elif rows[i, SPEED] > 3500:
            verdict[i] = NO_SPEED
        elif rows[i, HEADING] == 28800:
            verdict[i] = NO_HEADING
        else:
            verdict[i] = USABLE
            if not out[i, MEASURED_S] <= newest_s:
                newest_s = out[i, MEASURED_S]
    return newest_s


@njit(cache=True)
def _road_user(kind: int, vehicle_class: int) -> int:
    """VEHICLE_KINDS index of a participant, -1 what is none. Motorcycles drive and queue with the cars."""
    if kind == 4 or 90 <= vehicle_class <= 93:
        return -1
    if kind == 3:
        return _PEDESTRIAN
    if kind == 2:
        return _BICYCLE
    if vehicle_class < 0:
        return _CAR
    return user_of_class(vehicle_class)


@njit(cache=True)
def user_of_class(vehicle_class: int) -> int:
    """VEHICLE_KINDS index of a BasicVehicleClass."""
    if 60 <= vehicle_class <= 69:
        return _EMERGENCY
    if 50 <= vehicle_class <= 58:
        return _BUS
    if 20 <= vehicle_class <= 35:
        return _TRUCK
    if vehicle_class == 85:
        return _BICYCLE
    if 80 <= vehicle_class <= 86:
        return _PEDESTRIAN
    return _CAR

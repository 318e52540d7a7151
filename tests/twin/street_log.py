"""A minute of the small town, good and bad, and its recording."""

from __future__ import annotations

from pathlib import Path

from networks.messages import Frame
from tests.twin import small_city as town
from twin.privacy import Pseudonyms
from twin.recorder import Recorder

T0_S = town.T0_S
PLATE = "BJ-A12345"


def a_minute() -> list[list[Frame]]:
    """Twelve cycles of five seconds, with a duplicate, garbage and a stray in each."""
    cycles = []
    for k in range(12):
        at_s = T0_S + 5 * k
        good = [
            town.frame("loops", town.loops(at_s), counter=k, received_at_s=at_s + 0.3),
            town.frame("v2x", town.vehicle(at_s, PLATE), source=PLATE, counter=k, received_at_s=at_s + 0.2),
            town.frame("receipts", town.receipt(at_s, k), counter=k, received_at_s=at_s + 1.0),
        ]
        bad = [
            town.frame("v2x", b'{"vehicle": "BJ-A12345", "x_m": "?"}', source=PLATE, received_at_s=at_s + 1),
            town.frame("v2x", b"BJ-A12345 was here", source=PLATE, received_at_s=at_s + 1),
            town.frame("gossip", PLATE.encode(), source=PLATE, received_at_s=at_s + 1),
        ]
        cycles.append([*good, good[0], *bad])
    return cycles


def record(folder: Path, *, raw: bool = False) -> None:
    with Recorder(folder, city="nowhere", network="small", pseudonyms=Pseudonyms(b"recorder"), raw=raw) as recorder:
        for frames in a_minute():
            recorder.write(frames)

"""What was recorded comes out of the inbox again, whatever happened to the recorder, and without names."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin import small_city as town
from tests.twin import street_log
from twin.blocks import BlockReader, BlockWriter
from twin.inbox import Inbox
from twin.privacy import Pseudonyms
from twin.recorder import Recorder, Recording, list_files
from twin.replay import replay, survey

NETWORK = town.small_network()
T0_S = town.T0_S
PLATE = street_log.PLATE


def test_a_replay_accepts_and_refuses_what_the_street_did(tmp_path: Path) -> None:
    street_log.record(tmp_path)
    live = Inbox(NETWORK, town.DETECTORS)
    for k, frames in enumerate(street_log.a_minute()):
        for frame in frames:
            live.offer(frame, T0_S + 5 * k + 5)
    again = Inbox(NETWORK, town.DETECTORS)
    cycles = list(replay(Recording(tmp_path), again, cycle_s=5.0))
    assert again.tallies == live.tallies
    assert again.quarantine.count_reasons() == live.quarantine.count_reasons()
    assert sum(len(c.receipts) for c in cycles) == 12
    times = np.concatenate([c.batches.probes.measured_at_s for c in cycles])
    assert times.tolist() == [T0_S + 5 * k for k in range(12)]
    assert len({v for c in cycles for v in c.batches.probes.vehicle.tolist()}) == 1, "one vehicle stays one"
    assert all((c.batches.counts.available_at_s <= c.now_s).all() for c in cycles)


def test_a_log_names_nobody_unless_asked_to(tmp_path: Path) -> None:
    street_log.record(tmp_path / "masked")
    street_log.record(tmp_path / "raw", raw=True)
    assert PLATE not in repr(list(Recording(tmp_path / "masked")))
    assert Recording(tmp_path / "masked").header.masked
    assert list(Recording(tmp_path / "raw")) == [frame for cycle in street_log.a_minute() for frame in cycle]
    assert not Recording(tmp_path / "raw").header.masked


def test_a_frame_that_cannot_be_written_does_not_cost_the_others(tmp_path: Path) -> None:
    good = town.frame("loops", town.loops())
    with Recorder(tmp_path, city="", network="", pseudonyms=Pseudonyms()) as recorder:
        recorder.write([good._replace(counter=2**80), good, good._replace(received_at_s=math.nan)])
        assert recorder.unwritable == 2
    assert list(Recording(tmp_path)) == [good]


def test_recording_goes_on_after_a_crash_in_a_new_file(tmp_path: Path) -> None:
    street_log.record(tmp_path)
    torn = list_files(tmp_path)[0]
    torn.write_bytes(torn.read_bytes()[:-7])
    street_log.record(tmp_path)
    recording = Recording(tmp_path)
    assert len(list(recording)) == 11 * 7 + 12 * 7
    assert len(recording.damage) == 1
    assert torn.name in recording.damage[0]


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.data())
def test_blocks_before_any_damage_are_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "file"
    ends = []
    with BlockWriter(path) as writer:
        for payload in payloads:
            writer.append(payload)
            ends.append(writer.size_bytes)
    at = data.draw(st.integers(0, ends[-1] - 1))
    damage = data.draw(st.sampled_from(("cut", "flip", "zeros")))
    written = path.read_bytes()
    content = bytearray(written)
    if damage == "flip":
        content[at] ^= 0x5A
    else:
        content[at:] = bytes(50) if damage == "zeros" else b""
    path.write_bytes(content)
    reader = BlockReader(path)
    untouched = [end for end in ends if content[:end] == written[:end]]
    assert list(reader) == payloads[: len(untouched)]
    assert bool(reader.damage) == (len(content) != max(untouched, default=0))


def test_zeros_behind_a_torn_header_are_no_empty_block(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with BlockWriter(path) as writer:
        writer.append(b"whole")
        end = writer.size_bytes
        writer.append(b"torn")
    path.write_bytes(path.read_bytes()[: end + 4] + bytes(50))
    reader = BlockReader(path)
    assert list(reader) == [b"whole"]
    assert reader.damage


def test_a_long_pause_is_not_lived_through(tmp_path: Path) -> None:
    frames = [
        town.frame("loops", town.loops(t), counter=k, received_at_s=t + 0.5)
        for k, t in enumerate((T0_S, T0_S + 60, T0_S + 1e8))
    ]
    cycles = list(replay(frames, Inbox(NETWORK, town.DETECTORS), cycle_s=5.0))
    assert len(cycles) == 14
    assert sum(len(c.batches.counts.detector) for c in cycles) == 3


def test_a_survey_is_the_same_every_time(tmp_path: Path) -> None:
    street_log.record(tmp_path)
    first, second = (survey(tmp_path, network=NETWORK, detectors=town.DETECTORS) for _ in range(2))
    assert first == second
    assert first.frames == {"loops": 24, "v2x": 36, "receipts": 12, "(unknown)": 12}
    assert first.accepted == {"loops": 12, "v2x": 12, "receipts": 12, "(unknown)": 0}
    assert first.refused == {
        ("loops", "duplicate"): 12,
        ("v2x", "malformed"): 24,
        ("(unknown)", "unknown_feed"): 12,
    }
    assert first.first_received_s == T0_S + 0.2

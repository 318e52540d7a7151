"""Frames and orders over a broker come out as they went in, and nothing else comes out."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks import line
from networks.errors import MessageError
from networks.messages import FEEDS, FORMATS, Frame, LampStepOrder, PlanOrder, is_signed, sign_plan

NOW_S = 1_772_406_000.0
KEY = b"sixteen bytes or so"


@given(
    st.sampled_from((*FEEDS, *FORMATS)),
    st.text(min_size=1, max_size=40),
    st.integers(0, 2**63 - 1),
    st.floats(1.0, 9e10),
    st.binary(max_size=300),
)
def test_a_frame_comes_out_as_it_went_in(feed, source, counter, sent_s, payload):
    frame = Frame(feed, source, counter, sent_s, NOW_S, payload)
    topic = line.up_topic(feed, source)
    assert topic.count("/") == 3
    assert not set("+#\0") & set(topic)
    assert line.unpack_frame(topic, line.pack_frame(frame), NOW_S) == frame


@given(st.binary(max_size=80))
def test_noise_is_refused_or_is_a_frame(noise):
    with suppress(MessageError):
        frame = line.unpack_frame(line.up_topic("loops", "c1"), noise, NOW_S)
        assert noise.endswith(b"\n" + frame.payload)


@pytest.mark.parametrize(
    ("topic", "payload", "reason", "named"),
    [
        ("citytwin/up/loops", b'{"counter":1,"sent_at":1.0}\n', "unknown_feed", "topic"),
        ("elsewhere/up/loops/c1", b'{"counter":1,"sent_at":1.0}\n', "unknown_feed", "topic"),
        ("citytwin/up/loops/c1", b'{"counter":1,"sent_at":1.0}', "malformed", "line break"),
        ("citytwin/up/loops/c1", b'{"counter":-1,"sent_at":1.0}\n', "malformed", "counter"),
        ("citytwin/up/loops/c1", b'{"counter":1,"sent_at":NaN}\n', "malformed", "head"),
        ("citytwin/up/loops/c1", b'{"counter":1,"sent_at":1.0,"x":2}\n', "malformed", "unknown field"),
    ],
)
def test_what_is_refused_is_named(topic, payload, reason, named):
    with pytest.raises(MessageError) as refused:
        line.unpack_frame(topic, payload, NOW_S)
    assert refused.value.reason == reason
    assert named in str(refused.value)


def order(**changed: object) -> PlanOrder:
    plain = PlanOrder(
        junction="J1",
        plan_version=3,
        valid_from=NOW_S,
        valid_until=NOW_S + 60.0,
        repeats=False,
        steps=(LampStepOrder(state="Gr", duration_s=10.0),),
    )
    return plain.model_copy(update=changed)


def test_a_signature_holds_for_exactly_what_was_signed():
    signed = sign_plan(order(), KEY)
    assert is_signed(signed, KEY)
    assert not is_signed(signed, KEY + b"!")
    assert not is_signed(order(), KEY)
    for change in ({"plan_version": 4}, {"valid_until": NOW_S + 61.0}, {"junction": "J2"}, {"steps": ()}):
        assert not is_signed(signed.model_copy(update=change), KEY)

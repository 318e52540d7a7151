"""The table of many believes what the dictionary of single things believes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.feeds.recent import Fix, NumberedWhereabouts, Whereabouts

T0_S = 1_772_406_000.0
KEEP_S = 1e6  # nothing is forgotten: when exactly what is old goes may differ

fixes = st.lists(
    st.tuples(
        st.integers(0, 5) | st.integers(0, 2**62),
        st.floats(0, 20),
        st.sampled_from((0.0, 10.0, 500.0, 5000.0)),
        st.sampled_from((0.0, 900.0)),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(fixes, st.integers(1, 20))
def test_the_table_believes_what_the_dictionary_believes(
    seen: list[tuple[int, float, float, float]], together: int
) -> None:
    single: Whereabouts[int] = Whereabouts(KEEP_S)
    many = NumberedWhereabouts(KEEP_S)
    expected = [single.believes(key, Fix(T0_S + at_s, x, y)) for key, at_s, x, y in seen]
    got: list[bool] = []
    for first in range(0, len(seen), together):
        part = seen[first : first + together]
        key = np.array([one[0] for one in part], np.int64)
        at_s, x, y = (np.array([one[k] for one in part]) for k in (1, 2, 3))
        got += many.believes(key, T0_S + at_s, x, y).tolist()
    assert got == expected


def test_a_city_full_of_numbers_finds_room_and_the_old_ones_go() -> None:
    many = NumberedWhereabouts(10.0)
    for second in range(30):
        key = np.arange(5000, dtype=np.int64) + 5000 * second
        at_s = np.full(5000, T0_S + second)
        zero = np.zeros(5000)
        assert many.believes(key, at_s, zero, zero).all()
    assert not many.believes(key, at_s, zero + 4000.0, zero).any(), "those just seen are remembered"
    assert many.believes(key - 5000 * 25, at_s, zero + 4000.0, zero).all(), "those long gone are not"
    assert len(many._keys) <= 1 << 19

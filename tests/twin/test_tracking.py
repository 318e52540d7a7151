"""Tracks: the filter against plain matrices, who is who across units and reports, and scores on synthetic units."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tracking import PERIOD_S, UNITS, Faults, recorded, run, synthetic
from networks.batches import VEHICLE_KINDS, ProbeBatch, TrackBatch
from twin import tracking_kernels as kernels
from twin.track_measures import Moment, gospa_of, score_tracks
from twin.tracking import NOBODY, Tracker, TrackerSettings, retrack

CAR, BUS, WALKER = (VEHICLE_KINDS.index(kind) for kind in ("car", "bus", "pedestrian"))
T0_S = 1_772_406_000.0

coordinate = st.floats(-500, 500)
speed = st.floats(-20, 20)


def see(tracker: Tracker, at_s: float, *points: tuple[float, ...], unit: int = 0, kind: int = CAR) -> list[int]:
    """points: x, y, and vx, vy where they are told."""
    table = np.array([[*point, math.nan, math.nan][:4] for point in points]).reshape(-1, 4)
    return tracker.see(unit, at_s, *table.T, np.full(len(table), kind, np.int32)).tolist()


# The filter


def plain_filter(
    state: np.ndarray, covariance: np.ndarray, dt: float, q: float, found: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Textbook matrices: predict, then one joint update."""
    f = np.eye(4)
    f[0, 2] = f[1, 3] = dt
    block = np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    noise_q = q * np.kron(block, np.eye(2))
    state, covariance = f @ state, f @ covariance @ f.T + noise_q
    told = ~np.isnan(found)
    h, r = np.eye(4)[told], np.diag(noise[told])
    spread = h @ covariance @ h.T + r
    gain = covariance @ h.T @ np.linalg.inv(spread)
    return state + gain @ (found[told] - h @ state), covariance - gain @ h @ covariance


@settings(max_examples=100)
@given(
    st.tuples(coordinate, coordinate, speed, speed),
    st.lists(st.tuples(coordinate, coordinate, speed, speed, st.booleans()), min_size=1, max_size=6),
    st.floats(0.01, 2.0),
    st.floats(0.1, 5.0),
)
def test_the_filter_is_the_textbooks(
    first: tuple[float, ...], seen: list[tuple[float, float, float, float, bool]], dt: float, q: float
) -> None:
    state, covariance = np.array([first]), np.diag([1.0, 2.0, 9.0, 16.0])[None]
    plain_state, plain_covariance = state[0].copy(), covariance[0].copy()
    at_s, row = np.array([T0_S]), np.zeros(1, np.int64)
    noise = np.array([0.5, 0.5, 1.5, 1.5])
    for k, (x, y, vx, vy, told) in enumerate(seen, start=1):
        found = np.array([x, y, vx if told else math.nan, vy if told else math.nan])
        step = T0_S + k * dt - at_s[0]
        plain_state, plain_covariance = plain_filter(plain_state, plain_covariance, step, q, found, noise)
        kernels.predict(state, covariance, at_s, row, T0_S + k * dt, q)
        kernels.update(state, covariance, at_s, row, T0_S + k * dt, found[None], 0.5, 1.5, math.inf)
    assert state[0] == pytest.approx(plain_state, rel=1e-6, abs=1e-6)
    assert covariance[0] == pytest.approx(plain_covariance, rel=1e-6, abs=1e-6)
    assert np.linalg.eigvalsh(covariance[0]).min() > -1e-9


@given(st.tuples(coordinate, coordinate, speed, speed), st.tuples(coordinate, coordinate))
def test_distances_are_mahalanobis(first: tuple[float, ...], point: tuple[float, float]) -> None:
    covariance = np.array([[[2.0, 0.3, 0, 0], [0.3, 1.0, 0, 0], [0, 0, 4.0, 0], [0, 0, 0, 4.0]]])
    cost = np.empty((1, 1))
    found = np.array([[*point, math.nan, math.nan]])
    walks = np.zeros(1, np.bool_)
    one = np.zeros(1, np.int64)
    kernels.distances(np.array([first]), covariance, np.array([T0_S]), walks, one, T0_S, found, walks, 0.5, 1e9, cost)
    spread = covariance[0, :2, :2] + 0.5 * np.eye(2)
    off = np.array(point) - np.array(first[:2])
    assert cost[0, 0] == pytest.approx(off @ np.linalg.inv(spread) @ off + math.log(np.linalg.det(spread)), rel=1e-9)


def test_the_variance_settles_where_the_riccati_equation_says() -> None:
    """Steady state of one axis, by fixed-point iteration on 2 x 2 matrices."""
    settings_ = TrackerSettings(position_m=0.5, accel_density=2.0)
    tracker = Tracker(settings_)
    for k in range(200):
        see(tracker, T0_S + 0.1 * k, (0.1 * k, 0.0))
    f, q = np.array([[1, 0.1], [0, 1]]), 2.0 * np.array([[0.1**3 / 3, 0.1**2 / 2], [0.1**2 / 2, 0.1]])
    p = np.eye(2)
    for _ in range(500):
        p = f @ p @ f.T + q
        p = p - np.outer(p[:, 0], p[0]) / (p[0, 0] + 0.25)
    (variance,) = tracker.tracks(T0_S + 0.1 * 199).position_var_m2
    assert variance == pytest.approx(p[0, 0], rel=1e-6)


# Who is who


def test_two_who_cross_keep_their_tracks() -> None:
    tracker = Tracker()
    for k in range(60):
        at_s, way = T0_S + 0.1 * k, k - 30.0
        names = see(tracker, at_s, (way, 0.3), (0.3, way))
        if k == 10:
            before = names
    assert names == before
    assert len(tracker.tracks(T0_S + 5.9).id) == 2


def test_someone_hidden_for_two_seconds_is_the_same_afterwards() -> None:
    tracker = Tracker()
    seen = [k for k in range(80) if not 30 <= k < 50]
    names = {see(tracker, T0_S + 0.1 * k, (1.0 * k, 0.0))[0] for k in seen}
    assert len(names) == 1


def test_a_road_user_handed_over_between_units_keeps_the_track() -> None:
    tracker = Tracker()
    names = set()
    for k in range(100):
        x_m = 1.2 * k
        if x_m < 50:
            names |= set(see(tracker, T0_S + 0.1 * k, (x_m, 0.0), unit=0))
        elif x_m > 70:
            names |= set(see(tracker, T0_S + 0.1 * k, (x_m, 0.0), unit=1))
    assert len(names) == 1
    assert tracker.tracks(T0_S + 9.9).unit.tolist() == [1]


def test_two_units_that_see_the_same_car_make_one_track() -> None:
    tracker = Tracker()
    for k in range(30):
        at_s = T0_S + 0.1 * k
        first = see(tracker, at_s, (1.0 * k, 0.2), unit=0)
        assert first == see(tracker, at_s + 0.03, (1.0 * k + 0.3, -0.2), unit=1)
    assert len(tracker.tracks(T0_S + 3).id) == 1


def test_a_car_that_tells_of_itself_is_the_one_that_is_seen() -> None:
    tracker = Tracker()
    for k in range(40):
        at_s = T0_S + 0.1 * k
        see(tracker, at_s, (1.0 * k, 0.0), (1.0 * k, 6.4))
        if k >= 10:
            tracker.hear(77, at_s + 0.02, 1.0 * k + 0.4, 0.3, 10.0, 0.0, BUS)
    tracks = tracker.tracks(T0_S + 4)
    assert sorted(tracks.vehicle.tolist()) == [NOBODY, 77]
    bound = tracks.vehicle == 77
    assert tracks.kind[bound].tolist() == [BUS], "it knows best what it is"
    assert abs(tracks.y_m[bound][0]) < 1.0


def test_a_car_that_nobody_sees_is_followed_by_what_it_tells() -> None:
    tracker = Tracker()
    names = {tracker.hear(5, T0_S + k, 10.0 * k, 0.0, 10.0, 0.0, CAR) for k in range(5)}
    assert len(names) == 1
    tracks = tracker.tracks(T0_S + 4.5)
    assert tracks.x_m.tolist() == pytest.approx([45.0], abs=0.5)
    assert tracks.vehicle.tolist() == [5]


def test_a_pseudonym_that_jumps_is_taken_off_the_old_track() -> None:
    tracker = Tracker()
    for k in range(5):
        tracker.hear(5, T0_S + 0.1 * k, 1.0 * k, 0.0, 10.0, 0.0, CAR)
    tracker.hear(5, T0_S + 0.5, 400.0, 300.0, 10.0, 0.0, CAR)
    tracks = tracker.tracks(T0_S + 0.5)
    assert sorted(tracks.vehicle.tolist()) == [NOBODY, 5]
    assert tracks.x_m[tracks.vehicle == 5].tolist() == pytest.approx([400.0])


def test_single_ghosts_never_count() -> None:
    rng = np.random.default_rng(3)
    tracker = Tracker()
    for k in range(200):
        see(tracker, T0_S + 0.1 * k, tuple(rng.uniform(-300, 300, 2)))
        assert len(tracker.tracks(T0_S + 0.1 * k).id) == 0


def test_a_walker_beside_a_car_stays_a_walker() -> None:
    tracker = Tracker()
    for k in range(20):
        (car,) = see(tracker, T0_S + 0.1 * k, (0.1 * k, 0.0))
        (walker,) = see(tracker, T0_S + 0.1 * k, (0.1 * k, 0.1), kind=WALKER)
        assert car != walker
    assert sorted(tracker.tracks(T0_S + 2).kind.tolist()) == [CAR, WALKER]


def test_many_more_than_there_was_room_for() -> None:
    tracker = Tracker()
    grid = [(30.0 * i, 30.0 * j) for i in range(40) for j in range(20)]
    for k in range(4):
        names = see(tracker, T0_S + 0.1 * k, *grid)
    assert len(set(names)) == len(grid) == len(tracker.tracks(T0_S + 0.3).id)


def test_a_batch_comes_back_with_tracks_that_hold_across_units() -> None:
    count = 40
    at_s = T0_S + 0.1 * np.arange(count)
    zero, none = np.zeros(count), np.zeros(0)
    unit = (np.arange(count) >= 20).astype(np.int32)
    kind = np.full(count, CAR, np.int32)
    numbers = np.where(unit == 0, 4, 9).astype(np.int64)
    tracks = TrackBatch(unit, numbers, np.arange(count) * 1.0, zero, zero + 10, zero, kind, at_s, at_s)
    no_rows = np.zeros(0, np.int32)
    probes = ProbeBatch(np.zeros(0, np.int64), none, none, none, none, no_rows, no_rows, none, none)
    shuffled = np.random.default_rng(1).permutation(count)
    mixed = TrackBatch(*(getattr(tracks, name)[shuffled] for name in TrackBatch.__slots__))
    back = retrack(Tracker(), mixed, probes)
    assert len(set(back.object_id.tolist())) == 1
    assert back.x_m.tolist() == mixed.x_m.tolist()


# Scores


def moment(true: list[tuple[float, float]], tracks: list[tuple[float, float]], names: list[int]) -> Moment:
    shape = (-1, 2)
    return Moment(
        np.arange(len(true)),
        np.array(true).reshape(shape),
        np.array(names, np.int64),
        np.array(tracks).reshape(shape),
    )


def test_perfect_tracks_score_perfectly_and_none_score_nothing() -> None:
    true = [(0.0, 0.0), (10.0, 0.0)]
    perfect = score_tracks([moment(true, true, [4, 5])] * 5)
    assert (perfect.mota, perfect.idf1, perfect.gospa_m, perfect.switches) == (1.0, 1.0, 0.0, 0)
    nothing = score_tracks([moment(true, [], [])] * 5)
    assert (nothing.mota, nothing.idf1) == (0.0, 0.0)
    assert nothing.gospa_m == pytest.approx(5.0)  # two misses of c^2 / 2 each


def test_a_swap_costs_two_switches_and_half_the_identities() -> None:
    true = [(0.0, 0.0), (10.0, 0.0)]
    swapped = score_tracks([moment(true, true, [4, 5])] * 5 + [moment(true, true, [5, 4])] * 5)
    assert swapped.switches == 2
    assert swapped.mota == pytest.approx(1 - 2 / 20)
    assert swapped.idf1 == pytest.approx(0.5)


@given(
    st.lists(st.tuples(coordinate, coordinate), max_size=5), st.lists(st.tuples(coordinate, coordinate), max_size=5)
)
def test_gospa_is_a_distance(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> None:
    left, right = (np.array(points).reshape(-1, 2) for points in (a, b))
    there, back = gospa_of(left, right, cutoff_m=5.0), gospa_of(right, left, cutoff_m=5.0)
    assert there == pytest.approx(back)
    assert gospa_of(left, left, cutoff_m=5.0) == pytest.approx(0.0)
    assert 0.0 <= there <= math.sqrt((len(a) + len(b)) * 12.5) + 1e-9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noisy_units_are_followed_far_better_than_their_detections(seed: int) -> None:
    tracked, detected, _ = run(synthetic(seed, 15.0, 40, 10), UNITS, Faults(), 0.2, seed)
    assert tracked.mota > 0.8
    assert tracked.idf1 > 0.85
    assert tracked.position_rmse_m < detected.position_rmse_m
    assert tracked.gospa_m < detected.gospa_m


def test_real_tracks_under_the_same_faults(shared_data) -> None:
    file = shared_data / "trajectories" / "tafbw_k729" / "vehicle_tracks_000.csv.gz"
    if not file.is_file():
        pytest.skip("needs the recorded junction in ../shared/data/trajectories/tafbw_k729")
    truth = recorded(file)
    assert PERIOD_S == 0.1
    middle = np.concatenate([one.xy_m for one in truth]).mean(axis=0)
    unit = UNITS[0]._replace(x_m=float(middle[0]), y_m=float(middle[1]), range_m=150.0)
    tracked, detected, _ = run(truth, (unit,), Faults(), 0.0, 0)
    assert tracked.mota > detected.mota
    assert tracked.idf1 > 0.7

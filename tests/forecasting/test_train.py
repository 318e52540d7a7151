from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forecasting.adapt import adapt_model
from forecasting.artifact import Artifact, load_artifact, save_artifact
from forecasting.backcast import forecast_windows
from forecasting.courses import Course, make_courses
from forecasting.features import window_features
from forecasting.forecasters import Graph, fit_city
from forecasting.gate import Verdict, judge
from forecasting.model import GraphModel, ModelShape, pinball
from forecasting.registry import RefusedError, Registry
from forecasting.train import Plan, draw_hidden, train_model
from forecasting.window_file import WindowSet
from networks.errors import InputError
from networks.state import QUANTILES
from tests.forecasting.cities import drawn_city

SHAPE = ModelShape(hidden=16, blocks=2, message=4, hubs=2)
PLAN = Plan(steps=120, tokens=120)


@pytest.fixture(scope="module")
def courses() -> list[Course]:
    return make_courses([drawn_city(days=6, nodes=3, seed=1)])


class StoppedError(Exception):
    pass


def test_an_interrupted_training_goes_on_to_the_same_losses(courses: list[Course], tmp_path: Path) -> None:
    whole = train_model(courses, SHAPE, PLAN)
    checkpoint = tmp_path / "member.pt"

    def stop(step: int, loss: float) -> None:
        if step == 110:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_model(courses, SHAPE, PLAN, checkpoint=checkpoint, on_step=stop)
    resumed_at: list[int] = []
    resumed = train_model(courses, SHAPE, PLAN, checkpoint=checkpoint, on_resume=resumed_at.append)
    assert resumed_at == [100]
    assert resumed.losses == whole.losses
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert np.mean(whole.losses[-20:]) < np.mean(whole.losses[:20])
    with pytest.raises(InputError, match="another plan"):
        train_model(courses, SHAPE, Plan(steps=200), checkpoint=checkpoint)


def test_a_training_goes_on_from_weights_that_were_trained_before(courses: list[Course]) -> None:
    first = train_model(courses, SHAPE, PLAN)
    more = train_model(courses, SHAPE, Plan(steps=60, seed=5, tokens=120), begin=first.model)
    fresh = train_model(courses, SHAPE, Plan(steps=60, seed=5, tokens=120))
    assert np.mean(more.losses[:20]) < np.mean(fresh.losses[:20])


def test_windows_are_cross_fitted_one_by_one_in_any_order(courses: list[Course]) -> None:
    course = next(c for c in courses if c.cross_fitted)
    starts = course.starts[torch.randperm(len(course.starts), generator=torch.Generator().manual_seed(0))[:12]]
    linear = window_features(course.context, starts).linear
    together = course.ridge.predict(linear, starts)
    for k in range(len(starts)):
        alone = course.ridge.predict(linear[:, k : k + 1], starts[k : k + 1])
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[:, 0], many[:, k])


def test_courses_hold_other_steps_and_short_histories(courses: list[Course]) -> None:
    steps = {c.context.step_s for c in courses}
    assert steps >= {300, 600, 1200}
    assert min(c.context.history_days for c in courses) < max(c.context.history_days for c in courses)
    for course in courses:
        assert (course.starts + 24 <= len(course.context.usual)).all()
        if not course.cross_fitted:
            assert (course.starts + 12 >= course.context.training).all()


def test_hidden_inputs_are_places_readings_or_stretches() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        hidden = draw_hidden(rng, 50, 20, 0.6)
        assert hidden.shape == (50, 12, 20)
        assert hidden.float().mean() < 0.7


def test_pinball_is_least_at_the_true_quantiles() -> None:
    truth = torch.randn(1, 4000, 12)
    levels = torch.tensor(QUANTILES)
    right = torch.special.ndtri(levels).expand(1, 4000, 12, -1)
    known, weight = torch.ones(1, 4000, 12), torch.ones(1)
    best = pinball(right, truth, known, weight)
    for wrong in (right + 0.3, right * 1.3, right * 0.7):
        assert pinball(wrong, truth, known, weight) > best


def test_an_adapter_begins_at_the_shared_model_and_never_leaves_for_worse() -> None:
    city = fit_city(drawn_city(days=6, nodes=4))
    torch.manual_seed(0)
    shared = GraphModel(SHAPE).eval()
    adapted = adapt_model("m", [shared], city, steps=40)
    starts = city.series.split_starts()[2][-50:]
    windows = WindowSet(city.series.values[starts[:, None] + np.arange(12)], starts, city.series.training_rows())
    truth = city.series.values[starts[:, None] + 12 + np.arange(12)]
    error = [
        np.nanmean(np.abs(forecast_windows(city, windows, f).quantiles[..., 3] - truth))
        for f in (Graph([shared]), adapted)
    ]
    assert error[1] < 1.05 * error[0]
    few = fit_city(drawn_city(days=2, nodes=2))
    assert adapt_model("m", [shared], few, steps=5).mix == 0.0


def test_later_windows_decide_how_far_to_adapt() -> None:
    """The whole training part is learnt from, and what it taught is used as far as later windows bear it out."""
    series = drawn_city(days=6, nodes=4)
    torch.manual_seed(0)
    shared = GraphModel(SHAPE).eval()
    changed = series.values.copy()
    changed[series.training_rows() :] *= np.random.default_rng(0).uniform(0.2, 3.0, series.nodes).astype(np.float32)
    mixes = []
    for one in (series, replace(series, values=changed)):
        city = fit_city(one)
        judged = torch.from_numpy(city.context.grid.row[one.split_starts()[1]])
        adapted = adapt_model("m", [shared], city, steps=80, judged=judged)
        features = window_features(city.context, judged)
        weight = features.target_known * city.context.scale[:, None, None]
        error = [
            float(((f.quantiles(city, features, judged)[..., 3] - features.target).abs() * weight).sum())
            for f in (Graph([shared]), adapted)
        ]
        assert error[1] <= error[0]
        mixes.append(adapted.mix)
    assert mixes[0] > 0.0


def artifact(name: str) -> Artifact:
    torch.manual_seed(1)
    return Artifact(name, [GraphModel(SHAPE).eval()], [{"name": "drawn", "fingerprint": "00"}], {"steps": 1}, {})


def test_an_artefact_is_read_back_and_strangers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    made = artifact("m")
    save_artifact(path, made)
    read = load_artifact(path)
    assert read.summary() == made.summary()
    for one, other in zip(read.members[0].parameters(), made.members[0].parameters(), strict=True):
        assert torch.equal(one, other)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match=r"m\.pt"):
        load_artifact(path)
    torch.save({"format": 99}, path)
    with pytest.raises(InputError, match="format is 99"):
        load_artifact(path)


GOOD, BAD = Verdict({"model": 1.0}, {}, 9, ()), Verdict({"model": 2.0}, {}, 9, ("its error is not below",))


def test_models_are_promoted_through_the_gate_and_rolled_back(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.live() == "shipped"
    for name in ("a", "b"):
        registry.add(artifact(name))
    registry.promote("a", GOOD)
    registry.promote("b", GOOD)
    assert registry.live() == "b"
    with pytest.raises(RefusedError, match="not below"):
        registry.promote("a", BAD)
    assert registry.live() == "b"
    assert registry.roll_back() == "a"
    assert registry.roll_back() == "shipped"
    with pytest.raises(InputError, match="nothing to roll back"):
        registry.roll_back()
    for wrong in ("../a", "shipped", ""):
        with pytest.raises(InputError):
            registry.add(artifact(wrong))
    with pytest.raises(InputError, match="no such model"):
        registry.load("c")


def test_the_gate_wants_less_error_and_honest_bands() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(100.0, 10.0, (50, 12, 20)).astype(np.float32)
    spread = torch.special.ndtri(torch.tensor(QUANTILES)).numpy() * 10.0
    right = np.broadcast_to(100.0 + spread, (*truth.shape, 7)).astype(np.float32)
    off = right + 5.0
    assert judge(right, {"ridge": off, "profile": off}, truth).passes
    assert not judge(off, {"ridge": right, "profile": off}, truth).passes
    narrow = (100.0 + (right - 100.0) * 0.3).astype(np.float32)
    assert any("band" in reason for reason in judge(narrow, {"ridge": off, "profile": off}, truth).reasons)
    broken = right.copy()
    broken[0, 0, 0, 0] = np.nan
    assert not judge(broken, {"ridge": off, "profile": off}, truth).passes
    assert not judge(right, {"ridge": off}, np.full_like(truth, np.nan)).passes


@pytest.mark.parametrize(("wild", "passes"), [(np.arange(240) % 40 < 12, True), (np.ones(240, np.bool_), False)])
def test_the_gate_allows_bands_what_chance_explains(wild: np.ndarray, passes: bool) -> None:
    """A few wild hours say little of the days to come; bands that are always too narrow say it all."""
    rng = np.random.default_rng(1)
    spread = torch.special.ndtri(torch.tensor(QUANTILES)).numpy() * 10.0
    wider = np.where(wild, 1.42 if passes else 1.14, 1.0)[:, None, None]  # both hold about 86 % in 90 % bands
    truth = (100.0 + rng.normal(0.0, 10.0, (240, 12, 20)) * wider).astype(np.float32)
    band = np.broadcast_to(100.0 + spread, (*truth.shape, 7)).astype(np.float32)
    verdict = judge(band, {"ridge": band + 9.0}, truth)
    assert 0.85 < verdict.coverage["0.9"] < 0.87
    assert verdict.passes is passes

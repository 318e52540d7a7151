"""Forecast errors of runs as one document, and what they say of a candidate."""

from __future__ import annotations

import pytest

from networks.errors import InputError
from twin.forecast_table import pool, shadow_verdict


def run(truths: int, own: float, ridge: float = 2.0) -> dict[str, object]:
    errors = {"served": ridge, "candidate new": own, "ridge": ridge, "profile": 3.0}
    row = {
        "minutes": 5, "truths": truths, "flow_mae_veh": errors, "speed_mae_mps": errors, "flow_lead": "ridge",
        "speed_lead": "profile", "flow_coverage": {"0.80": 0.8}, "speed_coverage": {"0.80": 0.9},
    }  # fmt: skip
    return {"gate": [], "rows": [row], "notes": []}


def test_errors_of_several_days_weigh_as_many_as_they_rest_on() -> None:
    (row,) = pool([run(300, 1.0), run(100, 2.0)])["rows"]
    assert (row["minutes"], row["truths"]) == (5, 400)
    assert row["flow_mae_veh"]["candidate new"] == pytest.approx(1.25)
    assert row["flow_lead"] == ["ridge"]
    assert pool([])["rows"] == []


def test_a_candidate_passes_when_its_readings_beat_ridge_and_profile() -> None:
    assert shadow_verdict(pool([run(300, 1.0)]), "new").passes
    worse = shadow_verdict(pool([run(300, 2.5)]), "new")
    assert [reason for reason in worse.reasons if "ridge" in reason] == [
        "its error 2.5 veh is not below that of the ridge, 2",
        "its error 2.5 m/s is not below that of the ridge, 2",
    ]
    with pytest.raises(InputError, match="candidate other"):
        shadow_verdict(pool([run(300, 1.0)]), "other")

"""Loops worked out from positions say what SUMO's own loops say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from networks.city import CityFolder
from networks.graph import Network
from scenarios.simulation import run_in_process
from tests.scenarios.loop_pairs import count_both


def test_counts_and_presence_agree_with_sumo(tiny_city: CityFolder, tiny_network: Network, tmp_path: Path) -> None:
    shutil.copy(tiny_city.network, tmp_path / "net.net.xml")
    table = run_in_process(count_both, tiny_network, tiny_city.routes[0], tiny_city.additional[0], tmp_path, 500)
    sumo, ours = table[:, 0], table[:, 1]
    assert sumo.sum() > 200
    assert np.abs(sumo - ours).max() <= 2  # lane changes on a loop
    assert abs(sumo.sum() - ours.sum()) <= 0.01 * sumo.sum()
    assert np.abs(table[:, 2] - table[:, 3]).sum() <= 0.03 * table[:, 2].sum()

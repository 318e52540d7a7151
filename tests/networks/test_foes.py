"""Foe matrices agree with sumolib's reading of the same networks."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import sumolib

from networks.readers.sumo import read_sumo

NETS = ["bologna_joined", "hamburg_tavf", "beijing_chaoyangmen"]


@pytest.mark.parametrize("name", NETS)
def test_foes_equal_those_of_sumolib(shared_data: Path, name: str) -> None:
    path = shared_data / "networks" / name / "net.net.xml.gz"
    network = read_sumo(path)
    other = sumolib.net.readNet(str(path), withPrograms=True, withInternal=False, withFoes=True)
    for signal in network.signals:
        links = defaultdict(list)
        for lane_in, _, link in other.getTLS(signal.id).getConnections():
            links[link] += [
                c for c in lane_in.getOutgoing() if c.getTLSID() == signal.id and c.getTLLinkIndex() == link
            ]
        expected = np.zeros((signal.link_count, signal.link_count), np.bool_)
        for a, from_a in links.items():
            for b, from_b in links.items():
                for x in from_a:
                    for y in from_b:
                        node = x.getJunction()
                        if a != b and node is y.getJunction():
                            pair = (node.getLinkIndex(x), node.getLinkIndex(y))
                            expected[a, b] |= node.areFoes(*pair) or node.areFoes(*pair[::-1])
        np.testing.assert_array_equal(signal.foes, expected, err_msg=signal.id)

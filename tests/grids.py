"""Grids of streets drawn by netgenerate."""

from __future__ import annotations

import subprocess
from pathlib import Path

import sumolib


def draw_grid(net: Path, number: int, length_m: int, *options: str) -> Path:
    """A net of `number` by `number` junctions so far apart, written to `net`, which is returned."""
    size = ("--grid", "--grid.number", str(number), "--grid.length", str(length_m))
    command = [sumolib.checkBinary("netgenerate"), *size, *options, "-o", str(net)]
    subprocess.run(command, check=True, capture_output=True)
    return net

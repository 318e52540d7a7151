"""Runs in processes of their own, and what happens when they fail."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from networks.city import CityFolder
from networks.errors import CityError, ProcessError
from scenarios.simulation import RunSpec, run_in_process
from tests.scenarios.sumo_lamps import die, watch_lamps


def test_what_sumo_cannot_load_is_an_error_with_its_words(tiny_city: CityFolder, tmp_path: Path) -> None:
    broken = tmp_path / "broken.rou.xml"
    broken.write_text('<routes><vehicle id="x" depart="0"><route edges="left0A0 nowhere"/></vehicle></routes>')
    with pytest.raises(CityError, match="nowhere"):
        run_in_process(watch_lamps, RunSpec(tiny_city.network, (broken,)), 5)


def test_a_process_that_dies_is_an_error_not_a_wait() -> None:
    with pytest.raises(ProcessError, match="exit code 7"):
        run_in_process(die, 7, timeout_s=60.0)


def test_a_process_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ProcessError, match="no answer"):
        run_in_process(time.sleep, 60.0, timeout_s=0.5)


def test_a_child_does_not_load_its_parents_main_module(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import os\n"
        "from scenarios.simulation import run_in_process\n"
        "def own():\n    return __name__\n"
        "print('loaded as', __name__, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    run_in_process(os.getpid)\n"
        "    print('answer', run_in_process(own))\n"
    )
    said = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == ["loaded as __main__", "loaded as __mp_main__", "answer __mp_main__"]

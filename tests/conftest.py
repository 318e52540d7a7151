"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no deadlines", deadline=None)  # how long an example takes is not what is tested
settings.load_profile("no deadlines")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real networks and series beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data sets in ../shared/data beside the checkout")
    return folder

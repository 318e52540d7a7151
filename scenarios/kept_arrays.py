"""Arrays that took a simulation to make, kept on disk for the next time."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from networks.city import CityFolder
from networks.graph import Floats, Network


def key_of(city: CityFolder, network: Network, *facts: object) -> str:
    """A name for what follows from exactly these files, this SUMO and these facts."""
    digest = hashlib.sha256()
    digest.update(repr((version("libsumo"), network.fingerprint, city.begin_s, city.end_s, *facts)).encode())
    for path in city.files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:24]


def keep(path: Path, arrays: Mapping[str, Floats]) -> None:
    """Write beside, then rename: a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)


def fetch(path: Path, names: Iterable[str]) -> dict[str, Floats] | None:
    """The arrays of these names, or None when there are none or they are damaged (then they are made again)."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None

"""Finding a city by the word on the command line: a bundled name or a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from networks.city import CityFolder, read_city
from networks.errors import CityError
from scenarios.zone.build import build_zone
from scenarios.zone.parameters import ZoneParameters

BUNDLED: Mapping[str, ZoneParameters] = {"zone": ZoneParameters()}


def find_city(spec: str) -> CityFolder:
    """The bundled city called `spec` (drawn once, then kept in the cache), else the city in the folder `spec`.

    Raises CityError when there is neither.
    """
    if spec in BUNDLED:
        return read_city(bundled_folder(BUNDLED[spec], cache_folder()))
    folder = Path(spec).expanduser()
    if not folder.exists():
        raise CityError(f"no city {spec!r}: it is neither a folder nor a bundled city ({', '.join(sorted(BUNDLED))})")
    return read_city(folder)


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/citytwin, else ~/.cache/citytwin."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "citytwin"


def bundled_folder(parameters: ZoneParameters, cache: Path) -> Path:
    """The folder of the zone of these parameters, built when missing. Safe when several processes ask at once."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{parameters.name}-{_fingerprint(parameters)}"
    with _locked(cache / f"{folder.name}.lock"):
        if not folder.exists():
            scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache))
            try:
                build_zone(parameters, scratch)
                scratch.chmod(0o755)
                scratch.rename(folder)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
    return folder


def _fingerprint(parameters: ZoneParameters) -> str:
    """Changes with the parameters, with SUMO and with the generator's own source."""
    digest = hashlib.sha256(f"{parameters!r} SUMO {version('eclipse-sumo')}".encode())
    for source in sorted(Path(__file__).with_name("zone").glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the lock ends with the process, so a crash leaves none behind."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield

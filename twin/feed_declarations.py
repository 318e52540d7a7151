"""Which feeds in the formats of others a city has: a file of declarations -> adapters.

    [[feed]]
    format = "rsm"                      # one of networks.messages.FORMATS
    datum = "gcj02"                     # of its coordinates; wgs84 where none is given
    units = { unit0001 = "J17" }        # rsm: signals of units, where not the nearest

    [[feed]]
    format = "spat"
    maps = ["unit0001.map"]             # spat, rsi: MAP messages as bytes; without them our own numbers hold
    region = 7                          # of our own numbers

    [[feed]]
    format = "rsi"
    closing = [501]                     # event types that close the lanes they lie on

    [[feed]]
    format = "counts_csv"               # counts_json alike
    lateness_s = 900
    fields = { detector = "SITE", time = "BEGIN", time_is_begin = true, zone_h = 8, interval_s = 300, interval = "" }

    [[feed]]
    format = "v2x_seq"
    intersections = { "yizhuang#4" = { signal = "J17", east_m = -441000.0, north_m = -4417000.0 } }

    [[feed]]
    format = "gtfs_rt"
    kind = "bus"                        # or tram

A format stands there at most once. `wzdx` takes a datum, `gat1049` `crosses` and `zone_h`; `bsm`, `metar`, `cma` and
`cap` need nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from networks.city import Detector
from networks.errors import InputError, MessageError, NetworkError
from networks.graph import Network
from networks.messages import FORMATS
from twin.feeds.base import AnyAdapter
from twin.feeds.bsm import BsmAdapter
from twin.feeds.cap import CapAdapter
from twin.feeds.cma import CmaAdapter
from twin.feeds.counts import CountFields
from twin.feeds.counts_csv import CountsCsvAdapter
from twin.feeds.counts_json import CountsJsonAdapter
from twin.feeds.gat1049 import CHINA_H, Gat1049Adapter
from twin.feeds.gtfs_rt import GtfsAdapter
from twin.feeds.metar import MetarAdapter
from twin.feeds.rsi import RsiAdapter
from twin.feeds.rsm import RsmAdapter
from twin.feeds.spat import SpatAdapter
from twin.feeds.v2x_seq import V2xSeqAdapter
from twin.feeds.wzdx import WzdxAdapter
from twin.map_reading import numbering_of_maps
from twin.numbering import Numbering, own_numbering
from twin.privacy import Pseudonyms
from twin.toml_file import read_as

Datum = Literal["wgs84", "cgcs2000", "gcj02", "bd09"]


class _Place(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: str
    east_m: float = Field(default=0.0, allow_inf_nan=False)
    north_m: float = Field(default=0.0, allow_inf_nan=False)


class Declaration(BaseModel):
    """One feed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    datum: Datum = "wgs84"
    units: dict[str, str] = {}
    maps: tuple[Path, ...] = ()
    region: int | None = Field(default=None, ge=0, le=65_535)
    closing: tuple[int, ...] = ()
    lateness_s: float = Field(default=300.0, gt=0, le=86_400)
    fields: CountFields = CountFields()
    intersections: dict[str, _Place] = {}
    kind: Literal["bus", "tram"] = "bus"
    crosses: dict[str, str] = {}
    zone_h: float = Field(default=CHINA_H, ge=-14, le=14)


class _Declarations(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    feed: tuple[Declaration, ...]


def read_declarations(path: Path) -> tuple[Declaration, ...]:
    """The feeds that a file declares. Raises InputError naming file and field."""
    declared = read_as(_Declarations, path).feed
    seen: set[str] = set()
    for number, one in enumerate(declared):
        if one.format not in FORMATS:
            raise InputError(f"{path}: feed.{number}.format: {one.format!r} is none of {', '.join(FORMATS)}")
        if one.format in seen:
            raise InputError(f"{path}: feed.{number}.format: {one.format!r} stands there twice")
        seen.add(one.format)
    base = path.resolve().parent
    return tuple(one.model_copy(update={"maps": tuple(base / file for file in one.maps)}) for one in declared)


def make_formats(
    declarations: Sequence[Declaration], network: Network, detectors: Sequence[Detector], pseudonyms: Pseudonyms
) -> tuple[AnyAdapter, ...]:
    """Adapters of declared feeds, for `Inbox`. Raises InputError naming the feed and what is wrong with it."""
    adapters = []
    for one in declarations:
        try:
            adapters.append(_MAKERS[one.format](one, network, detectors, pseudonyms))
        except (NetworkError, MessageError) as defect:
            raise InputError(f"feed {one.format!r}: {defect}") from None
    return tuple(adapters)


def _numbering(one: Declaration, network: Network) -> Numbering:
    if not one.maps:
        return own_numbering(network, one.region)
    try:
        messages = [file.read_bytes() for file in one.maps]
    except OSError as defect:
        raise InputError(f"feed {one.format!r}: maps: {defect}") from None
    return numbering_of_maps(network, messages, datum=one.datum).numbering


_Maker = Callable[[Declaration, Network, Sequence[Detector], Pseudonyms], AnyAdapter]

_MAKERS: Mapping[str, _Maker] = {
    "rsm": lambda one, network, _detectors, _names: RsmAdapter(network, datum=one.datum, units=one.units),
    "bsm": lambda one, network, _detectors, names: BsmAdapter(network, names, datum=one.datum),
    "spat": lambda one, network, _detectors, _names: SpatAdapter(network, _numbering(one, network)),
    "rsi": lambda one, network, _detectors, _names: RsiAdapter(
        network, _numbering(one, network), closing=one.closing, datum=one.datum
    ),
    "v2x_seq": lambda one, network, _detectors, _names: V2xSeqAdapter(
        network, {name: (place.signal, place.east_m, place.north_m) for name, place in one.intersections.items()}
    ),
    "counts_csv": lambda one, _network, detectors, _names: CountsCsvAdapter(
        detectors, one.fields, lateness_s=one.lateness_s
    ),
    "counts_json": lambda one, _network, detectors, _names: CountsJsonAdapter(
        detectors, one.fields, lateness_s=one.lateness_s
    ),
    "wzdx": lambda one, network, _detectors, _names: WzdxAdapter(network, datum=one.datum),
    "metar": lambda _one, _network, _detectors, _names: MetarAdapter(),
    "cma": lambda _one, _network, _detectors, _names: CmaAdapter(),
    "cap": lambda _one, network, _detectors, _names: CapAdapter(network),
    "gat1049": lambda one, network, _detectors, _names: Gat1049Adapter(
        network, crosses=one.crosses, zone_h=one.zone_h
    ),
    "gtfs_rt": lambda one, network, _detectors, names: GtfsAdapter(network, names, datum=one.datum, kind=one.kind),
}

"""Feed adapters, one file a feed, each behind `base.Adapter`.

To add a feed: a pydantic model in `networks.messages`, a file here with one class that decodes it and places it on
the network, and an entry in `make_adapters`. To add a format of others for a feed that there is: its name in
`networks.messages.FORMATS`, a file here, and a line in `twin.feed_declarations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from networks.city import Detector
from networks.graph import Network
from twin.feeds.base import AnyAdapter
from twin.feeds.control import NoticeAdapter
from twin.feeds.loops import LoopAdapter
from twin.feeds.receipts import ReceiptAdapter
from twin.feeds.roadside import RoadsideAdapter
from twin.feeds.signals import LampAdapter
from twin.feeds.v2x import VehicleAdapter
from twin.feeds.weather import WeatherAdapter
from twin.privacy import Pseudonyms


def make_adapters(
    network: Network, detectors: Sequence[Detector], pseudonyms: Pseudonyms
) -> Mapping[str, AnyAdapter]:
    """Every native feed of one city, by name."""
    adapters: tuple[AnyAdapter, ...] = (
        LoopAdapter(detectors),
        RoadsideAdapter(network),
        VehicleAdapter(network, pseudonyms),
        LampAdapter(network),
        NoticeAdapter(network),
        WeatherAdapter(),
        ReceiptAdapter(network),
    )
    return {adapter.feed: adapter for adapter in adapters}

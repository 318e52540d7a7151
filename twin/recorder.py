"""Records every frame as it came, to be replayed through the same inbox.

A log is a folder of `frames-NNNNNN.ctlog` files of checksummed blocks (`twin.blocks`); a block is compressed
MessagePack: first a `LogHeader`, then lists of frames as arrays. Unless asked otherwise the log holds no identities:
frames of feeds that name vehicles are masked before they are written (`twin.privacy.Pseudonyms.mask`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from networks.errors import InputError
from networks.messages import Frame
from twin.blocks import BlockReader, BlockWriter
from twin.feeds.base import find_envelope_defect
from twin.privacy import Pseudonyms

FORMAT = "citytwin-frames-1"
MAX_FILE_BYTES = 256 << 20
_FAST = 1  # zlib level; JSON shrinks to a fifth

_SUFFIX = ".ctlog"


class LogHeader(msgspec.Struct, frozen=True):
    """What a log says of itself, at the start of every file."""

    format: str
    city: str  # name or folder, "" unknown
    network: str  # fingerprint of the network
    masked: bool  # identities are pseudonyms


class Recorder:
    """The one writer of a log. `raw` keeps identities as they came: only for an operator who asked for it."""

    def __init__(self, folder: Path, *, city: str, network: str, pseudonyms: Pseudonyms, raw: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._header = LogHeader(FORMAT, city, network, not raw)
        self._pseudonyms = None if raw else pseudonyms
        self._number = max((int(f.stem.removeprefix("frames-")) for f in list_files(folder)), default=0)
        self._blocks = self._next_file()
        self.unwritable = 0

    def write(self, frames: Sequence[Frame]) -> None:
        """Append frames, on the disk when this returns: one call a cycle. Raises OSError when the disk is full.

        A frame whose envelope is broken cannot be kept; it is counted in `unwritable`.
        """
        kept = [frame for frame in frames if not find_envelope_defect(frame)]
        self.unwritable += len(frames) - len(kept)
        if not kept:
            return
        if self._pseudonyms is not None:
            kept = [self._pseudonyms.mask(frame) for frame in kept]
        self._blocks.append(zlib.compress(msgspec.msgpack.encode(kept), _FAST))
        if self._blocks.size_bytes > MAX_FILE_BYTES:
            full, self._blocks = self._blocks, self._next_file()
            full.close()

    def close(self) -> None:
        self._blocks.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_file(self) -> BlockWriter:
        self._number += 1
        blocks = BlockWriter(self._folder / f"frames-{self._number:06d}{_SUFFIX}")
        blocks.append(msgspec.msgpack.encode(self._header))
        return blocks


class Recording:
    """A log to read: iterates over its frames in the order they were written.

    After iterating, `damage` lists files whose end was cut off or garbled; all frames before are read.
    """

    def __init__(self, path: Path) -> None:
        """Raises InputError when there is no log at `path`, a folder or one of its files."""
        self._files = list_files(path) if path.is_dir() else [path]
        if not self._files or not self._files[0].is_file():
            raise InputError(f"{path}: no recorded frames here (*{_SUFFIX})")
        self.damage: list[str] = []
        first = next(iter(BlockReader(self._files[0])), b"")
        self.header = _read_header(self._files[0], first)

    def __iter__(self) -> Iterator[Frame]:
        self.damage = []
        for file in self._files:
            reader = BlockReader(file)
            for number, block in enumerate(reader):
                if number == 0:
                    _read_header(file, block)
                else:
                    yield from msgspec.msgpack.decode(zlib.decompress(block), type=list[Frame])
            if reader.damage:
                self.damage.append(reader.damage)


def list_files(folder: Path) -> list[Path]:
    """Files of a log in order."""
    return sorted(folder.glob(f"frames-*{_SUFFIX}"))


def _read_header(file: Path, block: bytes) -> LogHeader:
    try:
        header = msgspec.msgpack.decode(block, type=LogHeader)
    except msgspec.DecodeError as error:
        raise InputError(f"{file}: not a log of frames: {error}") from None
    if header.format != FORMAT:
        raise InputError(f"{file}: format {header.format}, this program reads {FORMAT}")
    return header

"""Files of checksummed blocks, only ever appended to: what was written whole is read whole, whatever happened then.

A block is `CTB1`, its length and a CRC-32 of length and bytes (little-endian, 4 bytes each), and the bytes. The
length is in the checksum because a crash may leave zeros behind, and those must not read as an empty block. Reading
stops at the first block that is cut off or garbled, and says so; everything before it is good.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from networks.sync import sync

_HEADER = struct.Struct("<4sII")
_MAGIC = b"CTB1"
MAX_BLOCK_BYTES = 1 << 30


class BlockWriter:
    """Appends to a file that must not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("xb", buffering=0)
        self._good_bytes = 0
        sync(path.parent)

    def append(self, payload: bytes) -> None:
        """Write a block and sync it to the disk. Raises OSError; the file then ends with the block before."""
        block = memoryview(_HEADER.pack(_MAGIC, len(payload), _checksum(payload)) + payload)
        try:
            while block:
                block = block[self._file.write(block) :]
            os.fdatasync(self._file.fileno())
        except OSError:
            self._file.truncate(self._good_bytes)
            self._file.seek(self._good_bytes)
            raise
        self._good_bytes = self._file.tell()

    @property
    def size_bytes(self) -> int:
        return self._good_bytes

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockReader:
    """Iterates over the good blocks of a file; afterwards `damage` says what was found instead of a clean end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self.good_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        self.damage, self.good_bytes = "", 0
        with self.path.open("rb") as file:
            while header := file.read(_HEADER.size):
                if len(header) < _HEADER.size:
                    self._stop("is cut off")
                    return
                magic, length, checksum = _HEADER.unpack(header)
                if magic != _MAGIC or length > MAX_BLOCK_BYTES:
                    self._stop("is garbled")
                    return
                payload = file.read(length)
                if len(payload) < length:
                    self._stop("is cut off")
                    return
                if _checksum(payload) != checksum:
                    self._stop("is garbled")
                    return
                self.good_bytes = file.tell()
                yield payload

    def _stop(self, what: str) -> None:
        self.damage = f"{self.path.name}: the block at byte {self.good_bytes} {what}; all before it is good"


def _checksum(payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))

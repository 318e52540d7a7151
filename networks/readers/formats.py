"""Tell the format of a map file from its content, and check that it is whole before anything else reads it."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import IO
from xml.parsers import expat

from networks.errors import NetworkError

# root element -> format
_ROOTS = {"net": "sumo", "osm": "osm", "OpenDRIVE": "opendrive"}
FORMATS = ("sumo", "osm", "pbf", "opendrive")


def detect_format(path: Path) -> str:
    """One of FORMATS. Reads an XML file to its end, so that a torn one is refused here.

    Raises NetworkError naming the defect.
    """
    try:
        with open_maybe_gzip(path) as stream:
            head = stream.read(64)
        if b"OSMHeader" in head:
            return "pbf"
        root = _root_of(path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as defect:
        raise NetworkError(f"{path}: the compressed file is torn or damaged: {defect}") from defect
    except OSError as defect:
        raise NetworkError(f"{path}: cannot be read: {defect.strerror or defect}") from defect
    except expat.ExpatError as defect:
        raise NetworkError(f"{path}: not whole as XML, and no OSM protobuf: {defect}") from defect
    if root not in _ROOTS:
        raise NetworkError(f"{path}: <{root}> is no road network; known are SUMO <net>, <osm> and <OpenDRIVE>")
    return _ROOTS[root]


def open_maybe_gzip(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, through gzip when its first bytes say so, whatever its name."""
    stream = path.open("rb")
    magic = stream.read(2)
    stream.seek(0)
    if magic == b"\x1f\x8b":
        stream.close()
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return stream


def holds_programmes(path: Path) -> bool:
    """Whether a SUMO file holds signal programmes. Raises NetworkError when it cannot be read."""
    try:
        with open_maybe_gzip(path) as stream:
            return any(element.tag == "tlLogic" for _, element in ET.iterparse(stream))
    except (ET.ParseError, EOFError, OSError, zlib.error) as defect:
        raise NetworkError(f"{path}: not readable as SUMO XML: {defect}") from defect


def _root_of(path: Path) -> str:
    roots: list[str] = []
    depth = 0

    def begin(name: str, _: dict[str, str]) -> None:
        nonlocal depth
        if depth == 0:
            roots.append(name)
        depth += 1

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    with open_maybe_gzip(path) as stream:
        parser.ParseFile(stream)
    return roots[0]

"""Run SUMO's netconvert and turn its messages into findings."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pyproj
import sumo
import sumolib

from networks.errors import NetworkError
from networks.findings import Finding

_NOISE = re.compile(r"SUMO_HOME|proj\.db|proj_create|Failed to create transformation|^Success\.|^Quitting")
_VARIABLE = re.compile(r"'[^']*'|\(.*\)")
_TOTAL = re.compile(r"^(\d+) total messages of type: ")
_SEVERE = re.compile(r"unsafe|cannot be (reached|adapted)|no connection|has no lanes", re.IGNORECASE)
_LONGEST_TEXT = 300


def run_netconvert(source: str, arguments: Sequence[str], *, timeout_s: float = 1800.0) -> tuple[Finding, ...]:
    """Run netconvert with these arguments; messages of one kind are told once, with the first as the example.

    Raises NetworkError naming `source` and the first errors when netconvert gives up.
    """
    command = [sumolib.checkBinary("netconvert"), *arguments, "--no-warnings", "false", "--aggregate-warnings", "3"]
    proj = pyproj.datadir.get_data_dir()
    environment = {**os.environ, "SUMO_HOME": sumo.SUMO_HOME, "PROJ_DATA": proj, "PROJ_LIB": proj}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise NetworkError(f"{source}: netconvert was not done after {timeout_s:g} s") from late
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode != 0:
        errors = [line for line in lines if line.startswith("Error:")] or [
            line for line in lines if not _NOISE.search(line) and not line.startswith("Warning:")
        ]
        reason = "; ".join(line.removeprefix("Error: ") for line in errors[:3]) or f"exit code {done.returncode}"
        raise NetworkError(f"{source}: netconvert cannot use it: {reason[: 3 * _LONGEST_TEXT]}")
    return summarise_messages(lines)


def summarise_messages(lines: Sequence[str]) -> tuple[Finding, ...]:
    """One finding per kind of message, in order of appearance, with how often it came."""
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for line in lines:
        level, _, text = line.partition(": ")
        if level not in {"Warning", "Error"} or _NOISE.search(text):
            continue
        total = _TOTAL.match(text)
        if total:
            pattern = _pattern(text[total.end() :])
            counts[pattern] = max(counts.get(pattern, 0), int(total.group(1)))
            examples.setdefault(pattern, text[total.end() :])
        else:
            pattern = _pattern(text)
            counts[pattern] = counts.get(pattern, 0) + 1
            examples.setdefault(pattern, text)
    return tuple(
        Finding(
            kind="netconvert",
            severity="warning" if _SEVERE.search(text) else "note",
            subject=next(iter(re.findall(r"'([^'%]+)'", text)), ""),
            text=text[:_LONGEST_TEXT],
            count=counts[pattern],
        )
        for pattern, text in examples.items()
    )


def _pattern(text: str) -> str:
    """A message with its ids and numbers blanked, as netconvert's own summary lines have them."""
    return re.sub(r"[\w#:.+-]*\d[\w#:.,+-]*", "%", _VARIABLE.sub("%", text))


def path_argument(path: Path) -> str:
    """A path as netconvert takes it: it splits lists at commas and expands variables."""
    text = str(path.resolve())
    if "," in text or "${" in text:
        raise NetworkError(f"{path}: netconvert cannot take a path with a comma or a variable in it; rename it")
    return text

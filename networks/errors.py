"""The error tree.

CityTwinError
├── InputError            the user's file or argument is wrong: exit code 2
│   ├── NetworkError      a road network cannot be read or used
│   ├── CityError         a city folder is incomplete or contradicts itself
│   └── MessageError      a feed message is malformed or impossible: goes to quarantine
├── ShapeError            arrays disagree: a broken promise between two of our modules
├── UnsafePlanError       a signal plan violates safety; carries the violations
└── ProcessError          a supervised process (virtual city, mirror) died or did not answer
"""

from __future__ import annotations

from collections.abc import Sequence


class CityTwinError(Exception):
    """Base of all errors raised on purpose."""


class InputError(CityTwinError):
    """What the user gave is wrong; the text names the thing and the field."""


class NetworkError(InputError):
    """A road network cannot be read or used."""


class CityError(InputError):
    """A city folder is incomplete or contradicts itself."""


class MessageError(InputError):
    """A feed message cannot be accepted. `reason` is a stable key for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ShapeError(CityTwinError):
    """Arrays that must agree do not."""


class UnsafePlanError(CityTwinError):
    """A plan violates safety. `violations` lists every defect found."""

    def __init__(self, violations: Sequence[object]) -> None:
        super().__init__("; ".join(str(v) for v in violations))
        self.violations = tuple(violations)


class ProcessError(CityTwinError):
    """A supervised process died or did not answer in time."""

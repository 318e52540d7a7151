"""How kernels that reach into tuples of arrays at every event are compiled.

Counting references to those arrays takes nine tenths of the time (12 million vehicle-seconds a second on cologne8,
100 without, in `signals.meso_kernels`); the arrays outlive each run. A call that is not inlined copies the tuples,
three hundred words, on the stack: inlining every kernel halves the time again.
"""

from __future__ import annotations

from typing import Any

from numba import njit

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
_UNCOUNTED: dict[str, Any] = {**_OPTIONS, "_nrt": False}
making: Any = njit(**_OPTIONS)  # may make arrays
flat: Any = njit(**_UNCOUNTED)  # must not
inlined: Any = njit(forceinline=True, **_UNCOUNTED)

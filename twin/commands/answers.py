"""How a verb ends: one clear line and the exit code of the design, never a traceback for the user's mistake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from networks.errors import CityTwinError, InputError

SAYS_NO, BAD_INPUT, OUR_FAULT = 1, 2, 3


@contextmanager
def answering() -> Iterator[None]:
    """Turn errors into exit codes: 2 for bad input and files that cannot be used, 3 for a fault of ours."""
    try:
        yield
    except InputError as defect:
        typer.echo(f"citytwin: {defect}", err=True)
        raise typer.Exit(BAD_INPUT) from defect
    except OSError as defect:
        typer.echo(f"citytwin: {defect.filename or 'file'}: {defect.strerror or defect}", err=True)
        raise typer.Exit(BAD_INPUT) from defect
    except CityTwinError as fault:
        typer.echo(f"citytwin: {type(fault).__name__}: {fault}", err=True)
        raise typer.Exit(OUR_FAULT) from fault

"""A Mosquitto of one's own, for as long as a measurement or a test lasts."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from networks.errors import ProcessError
from twin.broker import Certificates, find_tool, write_broker_files

PATIENCE_S = 30.0
LOOK_EVERY_S = 0.01


class OwnBroker:
    """A broker on a free port of this machine. As a context manager it is started and stopped."""

    def __init__(
        self,
        folder: Path,
        *,
        passwords: Mapping[str, str],
        units: Sequence[str] = (),
        gateways: Sequence[str] = (),
        certificates: Certificates | None = None,
    ) -> None:
        """`folder`: its files, and what survives a restart; others as in `write_broker_files`, and raises as that."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._config = write_broker_files(
            folder,
            units=units,
            gateways=gateways,
            passwords=passwords,
            port=self.port,
            certificates=certificates,
            run_as="root",  # as whoever starts it: only root could become somebody else
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once it listens. Raises ProcessError when it is not installed or does not listen."""
        tool = find_tool("mosquitto")
        if tool is None:
            raise ProcessError("needs Mosquitto (Debian: mosquitto)")
        self._process = subprocess.Popen(
            [str(tool), "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + PATIENCE_S
        while not self._listens():
            if time.monotonic() > deadline_s:
                self.stop()
                raise ProcessError(f"the broker does not listen after {PATIENCE_S:g} s")
            time.sleep(LOOK_EVERY_S)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

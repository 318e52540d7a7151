"""The web server of the live page, in a thread beside the loop."""

from __future__ import annotations

import socket
import threading

import uvicorn

from networks.errors import InputError, ProcessError
from twin.api import create_app
from twin.board import Board

_START_S = 10.0


class PageServer:
    """Serves a board until `stop`. Use as a context manager or call `start` and `stop`."""

    def __init__(self, board: Board, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """`port` 0 takes a free one; `url` tells which."""
        self._host, self._port = host, port
        config = uvicorn.Config(
            create_app(board),
            log_level="warning",
            ws="websockets-sansio",
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        shown = "127.0.0.1" if self._host in {"", "0.0.0.0"} else self._host
        return f"http://{shown}:{self._port}/"

    def start(self) -> str:
        """Begin to serve and return the address. Raises InputError when the port is taken."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
        except OSError as defect:
            listening.close()
            raise InputError(f"the page cannot listen on {self._host}:{self._port}: {defect}") from defect
        self._socket = listening
        self._port = int(listening.getsockname()[1])
        self._thread.start()
        deadline = threading.Event()
        waited_s = 0.0
        while not self._server.started:
            if waited_s > _START_S or not self._thread.is_alive():
                raise ProcessError("the page's web server did not start")
            deadline.wait(0.02)
            waited_s += 0.02
        return self.url

    def stop(self) -> None:
        """Close open pages and end the thread; harmless when not started."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> PageServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        if self._socket is not None:
            self._server.run(sockets=[self._socket])

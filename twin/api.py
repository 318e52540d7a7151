"""HTTP and WebSocket routes over a `Board`, and the live page."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from twin.board import Board
from twin.geometry import view_network

PAGE = Path(__file__).with_name("page")
_STALE_S = 30.0  # without a new cycle the loop is taken to be stuck
_JSON = "application/json"


def create_app(board: Board) -> FastAPI:
    """The page `/`, the network `/api/network`, the newest cycle `/api/state`, pushed on `/ws`, `/api/health`."""
    app = FastAPI(title="citytwin", docs_url=None, redoc_url=None)
    network = json.dumps(view_network(board.network, board.city), separators=(",", ":")).encode()

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/api/network")
    def network_geometry() -> Response:
        return Response(network, media_type=_JSON)

    @app.get("/api/state")
    def newest_state() -> Response:
        return Response(board.latest()[1], media_type=_JSON)

    @app.get("/api/health")
    def health(response: Response) -> dict[str, str | int | float | None]:
        cycles, _ = board.latest()
        age_s = board.age_s()
        status = "waiting" if math.isnan(age_s) else "stale" if age_s > _STALE_S else "ok"
        response.status_code = 200 if status == "ok" else 503
        return {"status": status, "cycles": cycles, "age_s": None if math.isnan(age_s) else round(age_s, 3)}

    @app.websocket("/ws")
    async def push(socket: WebSocket) -> None:
        """Send the newest cycle now and after each update; a slow page skips cycles instead of queueing them."""
        await socket.accept()
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        changed.set()
        listener = board.listen(lambda: _wake(loop, changed))
        gone = asyncio.create_task(_until_gone(socket, changed))
        try:
            shown = 0
            while True:
                await changed.wait()
                changed.clear()
                if gone.done():
                    return
                version, document = board.latest()
                if version > shown:
                    shown = version
                    await socket.send_text(document.decode())
        except WebSocketDisconnect:
            return
        finally:
            board.leave(listener)
            gone.cancel()

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return app


def _wake(loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(changed.set)


async def _until_gone(socket: WebSocket, changed: asyncio.Event) -> None:
    """Read the socket so that a closed page is noticed without waiting for the next cycle."""
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, RuntimeError):
        changed.set()

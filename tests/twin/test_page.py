from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from forecasting.producers import SIMPLE
from networks.errors import InputError
from networks.messages import FEEDS, FORMATS
from networks.state import Estimate, LampView, NetworkState, VehicleTable
from tests.twin import small_city as town
from twin.api import PAGE
from twin.board import Board, Snapshot, view_state
from twin.loop import FALLBACKS
from twin.serve_page import PageServer

NETWORK = town.small_network()
EDGES, LANES = len(NETWORK.edges.ids), len(NETWORK.lanes.ids)


def fused(now_s: float = 1e9) -> NetworkState:
    speed = Estimate(
        np.full(EDGES, 8.04), np.ones(EDGES), np.where(np.arange(EDGES) == 0, 5.0, 500.0), np.ones(EDGES, np.bool_)
    )
    speed.valid[-1] = False
    queue = Estimate(np.full(LANES, 2.0), np.ones(LANES), np.zeros(LANES), np.ones(LANES, np.bool_))
    lamps = tuple(
        LampView("G" * s.link_count, np.zeros(s.link_count), now_s, 1) if i == 0 else None
        for i, s in enumerate(NETWORK.signals)
    )
    return NetworkState(
        now_s, speed, speed, speed, queue, queue, Estimate.unknown(0), VehicleTable.empty(), lamps, 0.5,
        ("loop x: stuck",),
    )  # fmt: skip


@pytest.fixture
def board() -> Board:
    return Board(NETWORK, city="small")


class Browser:
    """Reads a served board over HTTP, as a browser would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def read(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url.rstrip("/") + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def json(self, path: str) -> Any:
        return json.loads(self.read(path)[1])


@pytest.fixture
def client(board: Board) -> Iterator[Browser]:
    with PageServer(board) as server:
        yield Browser(server.url)


def test_page_and_its_parts_are_served_from_here_alone(client: Browser) -> None:
    status, page = client.read("/")
    assert status == 200
    for name in [*re.findall(r'(?:src|href)="(/[^"]+)"', page), "/page/en.json", "/page/zh.json"]:
        assert client.read(name)[0] == 200
    assert client.read("/page/../api.py")[0] == 404
    for file in PAGE.iterdir():
        assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}", file.read_text("utf-8")), (
            f"{file.name} loads from outside"
        )


def test_network_is_drawn_edge_by_edge(client: Browser) -> None:
    drawn = client.json("/api/network")
    assert [e["id"] for e in drawn["edges"]] == list(NETWORK.edges.ids)
    assert drawn["city"] == "small"
    for line in drawn["stop_lines"]:
        signal = NETWORK.signals[line["signal"]]
        assert all(0 <= link < signal.link_count for link in line["links"])


def test_health_waits_for_the_first_cycle(client: Browser, board: Board) -> None:
    status, body = client.read("/api/health")
    assert (status, json.loads(body)["status"]) == (503, "waiting")
    board.update({"cycle": 1})
    status, body = client.read("/api/health")
    assert (status, json.loads(body)["status"], json.loads(body)["cycles"]) == (200, "ok", 1)


def test_state_shows_speed_evidence_queue_and_lamps(client: Browser, board: Board) -> None:
    assert client.json("/api/state") == {}
    board.update(view_state(NETWORK, fused()))
    shown = client.json("/api/state")
    assert shown["edges"]["speed_dmps"] == [80] * (EDGES - 1) + [-1]
    assert shown["edges"]["seen"] == [1] + [0] * (EDGES - 1)
    assert max(shown["edges"]["queue_m"]) <= 15
    assert shown["lamps"][1:] == [None] * (len(NETWORK.signals) - 1)


def test_each_cycle_is_pushed_and_the_newest_comes_first(client: Browser, board: Board) -> None:
    board.update({"cycle": 1})
    board.update({"cycle": 2})
    with connect(client.url.replace("http", "ws") + "ws") as socket:
        assert json.loads(socket.recv(timeout=5)) == {"cycle": 2}
        board.update({"cycle": 3})
        assert json.loads(socket.recv(timeout=5)) == {"cycle": 3}


def test_what_a_page_cannot_read_is_refused(board: Board) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        board.update({"now_s": float("nan")})
    assert board.latest() == (0, b"{}")


def test_many_threads_may_update_while_pages_read(board: Board) -> None:
    def work(base: int) -> None:
        for k in range(50):
            board.update({"cycle": base + k})

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    seen = [board.latest()[0] for _ in range(500)]
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert board.latest()[0] == 200


def test_the_server_takes_a_free_port_pushes_and_stops(board: Board) -> None:
    server = PageServer(board)
    with server, connect(server.url.replace("http", "ws") + "ws") as socket:
        board.update({"cycle": 9})
        assert json.loads(socket.recv(timeout=5)) == {"cycle": 9}
        port = int(server.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(InputError, match="cannot listen"):
            PageServer(board, port=port).start()
    assert not any(t.name == "page" for t in threading.enumerate())


def catalogue(language: str) -> dict[str, str]:
    words: dict[str, str] = json.loads((PAGE / f"{language}.json").read_text("utf-8"))
    return words


def test_both_languages_say_the_same_things() -> None:
    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert text.strip()
        assert chinese[key].strip()
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[key])), key


def test_the_page_uses_only_words_that_exist_and_all_of_them() -> None:
    html, script = (PAGE / "index.html").read_text("utf-8"), (PAGE / "page.js").read_text("utf-8")
    used = set(re.findall(r'data-(?:text|label)="([^"]+)"', html))
    used |= set(re.findall(r'"((?:cycle|decisions|feeds|language|legend|map|notice|parts|tip)\.[a-z_]+)"', script))
    words = catalogue("en").keys()
    assert used <= words
    built = {k for k in words if k.split(".")[0] in {"feed", "status", "producer", "stage", "fallback", "serving"}}
    assert words - built == used
    assert {f"feed.{f}" for f in (*FEEDS, *FORMATS)} <= words
    assert {f"producer.{p}" for p in ("model", *SIMPLE, "none")} <= words
    assert {f"{group}.{stage}" for group in ("stage", "fallback") for stage in FALLBACKS} <= words
    assert {f"status.{s}" for s in ("alive", "down", "starting", "off")} <= words
    assert {f"serving.{s}" for s in ("live", "shadow")} <= words


def test_the_page_has_no_text_of_its_own() -> None:
    html = (PAGE / "index.html").read_text("utf-8")
    body = re.sub(r"<[^>]+>", " ", html[html.index("<body>") :])
    allowed = {"+", "−", "⤢", "–", "0", "50", "100", "%", "中文", "English", "citytwin"}
    assert set(body.split()) <= allowed


def test_a_snapshot_needs_no_part_but_the_cycle(board: Board) -> None:
    snapshot: Snapshot = {"cycle": 1}
    board.update(snapshot)
    assert board.latest() == (1, b'{"cycle":1}')


def test_stopping_does_not_wait_for_open_pages(board: Board) -> None:
    server = PageServer(board)
    with connect(server.start().replace("http", "ws") + "ws"):
        server.stop()
        board.update({"cycle": 1})  # nobody listens any more
        assert not any(t.name == "page" for t in threading.enumerate())

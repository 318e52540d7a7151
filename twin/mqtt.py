"""The line to roadside units over an MQTT broker. See `BrokerLink`.

Paho does the protocol, in a thread of its own. It is used without a layer of coroutines over it because what makes
the line lossless is its manual acknowledgement: a message is acknowledged after the inbox (and the recorder) has it,
not when it has been received.
"""

from __future__ import annotations

import math
import queue
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from networks import day_one, line
from networks.errors import InputError, MessageError
from networks.messages import Frame
from twin.broadcast import Sending
from twin.inbox import Inbox

UP_TOPICS = (*(day_one.up_topic(kind) for kind in day_one.UP_KINDS), line.ALL_UP)
AT_LEAST_ONCE = 1
SESSION_S = 86_400
"""How long the broker keeps what comes in for us while we are away."""
WINDOW = 2000
"""Messages that wait here to be taken. At so many nothing more is read from the line; the rest waits at the broker.

The limit that MQTT 5 has for this (Receive Maximum) is asked for too, but Mosquitto 2.0.11 was seen to keep to it
only until the first acknowledgement.
"""
_LOOK_S = 0.5
MOST_UNSENT = 10_000
_LONGEST_RETRY_S = 10


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is and who we are there. The session belongs to `client_id`: one process at a time."""

    host: str
    port: int = 1883
    client_id: str = "citytwin"
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None  # None: no TLS
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30


class Delivery(NamedTuple):
    """One message as the broker brought it, not acknowledged yet."""

    topic: str
    payload: bytes
    received_at_s: float
    number: int  # of the packet
    connection: int  # on which it came; a number means nothing on another


class BrokerLink:
    """Takes what units say, once acknowledged for good, and brings them what is for them.

    QoS 1 both ways over a session that outlives connection, process and broker: while the line is down, the broker
    keeps what units say, and this side keeps what it wants to say (at most `MOST_UNSENT`). Messages may come twice;
    the inbox drops the second. Back-pressure: at most `WINDOW` deliveries wait here; whoever does not take them is
    brought no more, and in the end is disconnected by the broker, which keeps them.
    """

    def __init__(
        self,
        address: BrokerAddress,
        topics: Sequence[str] = UP_TOPICS,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises InputError when a file of the address cannot be used."""
        self._address = address
        self._topics = tuple(topics)
        self._clock = clock
        self._waiting: queue.Queue[Delivery] = queue.Queue(WINDOW)
        self._closing = threading.Event()
        self._connection = 0
        self._connected = threading.Event()
        self.refusal = ""  # why the broker does not let us in, "" when it does
        client = paho.Client(CallbackAPIVersion.VERSION2, address.client_id, protocol=paho.MQTTv5, manual_ack=True)
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.ca_file is not None:
            try:
                client.tls_set(
                    str(address.ca_file),
                    certfile=str(address.cert_file) if address.cert_file else None,
                    keyfile=str(address.key_file) if address.key_file else None,
                    tls_version=ssl.PROTOCOL_TLS_CLIENT,
                )
            except (OSError, ValueError) as defect:
                raise InputError(f"broker {address.host}: TLS files cannot be used: {defect}") from None
        client.reconnect_delay_set(1, _LONGEST_RETRY_S)
        client.max_queued_messages_set(MOST_UNSENT)
        client.max_inflight_messages_set(WINDOW)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        self._client = client

    def start(self) -> None:
        """Connect, and again whenever the line breaks; returns at once."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = WINDOW
        self._client.connect_async(
            self._address.host,
            self._address.port,
            keepalive=self._address.keepalive_s,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Whether the line is up and the broker knows what we want to hear, after waiting for it."""
        return self._connected.wait(timeout_s)

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    def take(self) -> list[Delivery]:
        """Everything that has come in since the last call; to be acknowledged when it is safe."""
        return [self._waiting.get() for _ in range(self._waiting.qsize())]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """These are safe. One that came on a broken connection cannot be told of; the broker brings it again."""
        for delivery in deliveries:
            if delivery.connection == self._connection:
                self._client.ack(delivery.number, AT_LEAST_ONCE)

    def send(self, sendings: Sequence[Sending]) -> int:
        """Hand over for delivery at least once; how many, in order, were taken: fewer when too much waits already."""
        for number, sending in enumerate(sendings):
            info = self._client.publish(sending.topic, sending.payload, qos=AT_LEAST_ONCE)
            if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
                return number
        return len(sendings)

    def close(self) -> None:
        """Leave for good; the session stays, and with it what units say meanwhile."""
        client = self._client
        self._closing.set()
        client.disconnect()
        client.loop_stop()
        client.on_connect = client.on_disconnect = client.on_subscribe = client.on_message = None

    def __enter__(self) -> BrokerLink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refusal = str(reason)
            return
        self.refusal = ""
        self._connection += 1
        if self._topics:
            client.subscribe([(topic, SubscribeOptions(qos=AT_LEAST_ONCE)) for topic in self._topics])
        else:
            self._connected.set()

    def _on_subscribe(self, *_: Any) -> None:
        self._connected.set()

    def _on_disconnect(self, *_: Any) -> None:
        self._connected.clear()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        delivery = Delivery(message.topic, bytes(message.payload), self._clock(), message.mid, self._connection)
        while not self._closing.is_set():
            try:
                self._waiting.put(delivery, timeout=_LOOK_S)
            except queue.Full:
                continue
            return


class FrameSink(Protocol):
    """Whoever keeps frames, see `Recorder`."""

    def write(self, frames: Sequence[Frame]) -> None: ...


def carry(link: BrokerLink, inbox: Inbox, recorder: FrameSink | None, now_s: float) -> int:
    """Bring what has come in to the recorder and the inbox, then acknowledge it; how many frames there were.

    A delivery that is no frame goes to quarantine and is acknowledged too: it would be none the next time.
    """
    deliveries = link.take()
    frames: list[Frame] = []
    for delivery in deliveries:
        try:
            frames += _frames_of(delivery)
        except MessageError as error:
            stray = Frame("mqtt", delivery.topic, 0, math.nan, delivery.received_at_s, delivery.payload)
            inbox.refuse(stray, error, now_s)
    if recorder is not None:
        recorder.write(frames)
    for frame in frames:
        inbox.offer(frame, now_s)
    link.acknowledge(deliveries)
    return len(frames)


def _frames_of(delivery: Delivery) -> tuple[Frame, ...]:
    """Raises MessageError."""
    if delivery.topic.startswith(line.UP):
        return (line.unpack_frame(delivery.topic, delivery.payload, delivery.received_at_s),)
    kind = day_one.kind_of_topic(delivery.topic)
    return day_one.frames_of(kind, delivery.payload, delivery.received_at_s)

"""Show the streams of all daemons on a NATS bus as devices of Home Assistant, through the MQTT listener of nats-server.

python home_assistant.py [nats://127.0.0.1:4222[,MORE-SERVERS] [CREDENTIALS-FILE]]

Each stream becomes a device with its state, level and latency, and an event when the sound changes. docs/bus.md says how
nats-server and Home Assistant are set up. A message that comes from NATS cannot be retained for MQTT, so Home Assistant is told
again what there is whenever it says that it has started.
"""

import asyncio
import hashlib
import json
import math
import sys
import time
from datetime import UTC, datetime
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import Error
from nats.js.errors import NoStreamResponseError, NotFoundError, ServiceUnavailableError

import mertd
from mertd.bus.subjects import ALL, parse_subject, pattern, token
from mertd.wire import Message, decode

ROOT = "mertd-state"
"""First token of the states. They are not under `mertd.>`, which is kept for years."""

BIRTH = "homeassistant.status"
"""Where Home Assistant says `online`; on MQTT, `homeassistant/status`."""

EXPIRE_S = 120
"""Seconds without news after which Home Assistant shows a device as unavailable. Longer than the hop."""

REPEAT_S = 30
"""Seconds after which a state is told again that lasts while nothing is published, such as `lost`."""

STATES = {
    "started": "listening",
    "device_back": "listening",
    "resumed": "listening",
    "silent": "silent",
    "device_lost": "lost",
    "paused": "paused",
    "ended": "ended",
    "failed": "failed",
    "stopping": "stopped",
}
"""Events that change the state of a stream."""

WAIT_S = 2
"""Seconds between two looks for the stream of the bus."""

LASTING = ("lost", "paused", "ended", "failed", "stopped")
"""States of streams that publish nothing."""


class Room:
    """A stream, as Home Assistant sees it."""

    def __init__(self, daemon: str, stream: str) -> None:
        self.daemon, self.stream, self.model = daemon, stream, ""
        self.last: dict[str, tuple[bytes, int]] = {}  # by kind: run and number of the last message
        self.told: dict[str, Any] | None = None  # what Home Assistant knows of the device
        self.values: dict[str, Any] = dict.fromkeys(("state", "level", "peak", "latency", "heard"))
        self.subject = f"{ROOT}.{token(daemon)}.{token(stream)}"
        # Names may have any characters, and two of them must not become one; identifiers have to be plain.
        self.id = "mertd_" + hashlib.sha256(f"{token(daemon)}.{token(stream)}".encode()).hexdigest()[:16]

    def is_new(self, kind: str, message: mertd.Embedding | mertd.Event) -> bool:
        """Return whether a message follows on the last one of its kind. One that comes a second time does not, nor a hole."""
        boot, seq = self.last.get(kind, (b"", -1))
        if getattr(message, "event", "") == "hole" or (message.boot == boot and message.seq <= seq):
            return False
        self.last[kind] = message.boot, message.seq
        return True

    def take(self, message: Message) -> dict[str, Any] | None:
        """Note a message. Return what is told as an event: a change of the sound."""
        if isinstance(message, mertd.Embedding):
            self.model = message.model.name + ("" if message.model.trained else ", UNTRAINED")
            heard = datetime.fromtimestamp(message.time.end_ns / 1e9, UTC).isoformat(timespec="milliseconds")
            levels = {"level": finite(message.audio.rms_dbfs), "peak": finite(message.audio.peak_dbfs)}
            latency_s = round(message.latency_ns.total / 1e9, 3)
            self.values |= {"state": "listening", **levels, "latency": latency_s, "heard": heard}
        elif isinstance(message, mertd.Event):
            self.values["state"] = STATES.get(message.event, self.values["state"])
            if message.event == "silent":
                self.values |= {"level": finite(message.detail.get("rms_dbfs")), "peak": None}
            if message.event in ("change", "return"):
                number = message.detail.get("strength" if message.event == "change" else "similarity")
                return {"event_type": message.event, "number": finite(number)}
        return None

    def discovery(self) -> dict[str, Any]:
        """Return what Home Assistant is told of the device (its version 2024.11, or later)."""
        topic = self.subject.replace(".", "/")

        def part(key: str, name: str, **more: Any) -> dict[str, Any]:
            template = f"{{{{ value_json.{key} }}}}"
            plain = {"platform": "sensor", "state_topic": topic, "value_template": template, "expire_after": EXPIRE_S}
            return {**plain, "name": name, "unique_id": f"{self.id}_{key}", **more}

        level = {"unit_of_measurement": "dBFS", "state_class": "measurement", "suggested_display_precision": 1}
        seconds = {"unit_of_measurement": "s", "device_class": "duration", "state_class": "measurement"}
        side = {"entity_category": "diagnostic"}
        options = sorted({*STATES.values()})
        sound = {"platform": "event", "name": "Sound", "unique_id": f"{self.id}_sound", "state_topic": f"{topic}/event"}
        device = {"identifiers": [self.id], "name": f"{self.stream} ({self.daemon})", "manufacturer": "mertd"}
        return {
            "device": device | ({"model": self.model} if self.model else {}),
            "origin": {"name": "mertd", "sw_version": mertd.__version__},
            "components": {
                "state": part("state", "State", device_class="enum", options=options),
                "level": part("level", "Level", icon="mdi:volume-high", **level),
                "peak": part("peak", "Peak", icon="mdi:volume-high", **level, **side),
                "latency": part("latency", "Latency", **seconds, **side),
                "heard": part("heard", "Heard until", device_class="timestamp", **side),
                "sound": {**sound, "event_types": ["change", "return"]},
            },
        }


class Bridge:
    """From the messages of the bus to the topics of Home Assistant."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rooms: dict[tuple[str, str], Room] = {}

    async def run(self) -> None:
        """Tell Home Assistant of all streams, for ever."""
        await self._client.subscribe(BIRTH, cb=self._on_birth)
        await self._client.subscribe(pattern(), cb=self._on_message)
        await self._look_back()
        while True:
            await asyncio.sleep(REPEAT_S)
            for room in self._rooms.values():
                if room.values["state"] in LASTING:
                    await self._tell(room.subject, room.values)

    async def _look_back(self) -> None:
        """Take the last message of each subject, so that a device is there before its stream says something."""
        stream = self._client.jetstream()
        name = await self._stream_name()
        info = await stream.stream_info(name, subjects_filter=ALL)
        kept = [await stream.get_last_msg(name, subject) for subject in info.state.subjects or {}]
        for one in sorted(kept, key=lambda one: one.seq or 0):
            await self._take(one.subject or "", one.data or b"")

    async def _stream_name(self) -> str:
        is_told = False
        while True:
            try:
                return await self._client.jetstream().find_stream_name_by_subject(ALL)
            except (NotFoundError, NoStreamResponseError, ServiceUnavailableError, TimeoutError):
                if not is_told:
                    print(f"nothing keeps {ALL} on this bus yet; `mertd relay --create` makes a stream", file=sys.stderr)
                is_told = True
                await asyncio.sleep(WAIT_S)

    async def _on_birth(self, said: Any) -> None:
        if said.data == b"online":
            for room in self._rooms.values():
                await self._announce(room)

    async def _on_message(self, received: Any) -> None:
        await self._take(received.subject, received.data)

    async def _take(self, subject: str, data: bytes) -> None:
        try:
            place = parse_subject(subject)
            message = decode([f"{place.kind}/{place.stream}/".encode(errors="surrogatepass"), data])
        except mertd.MertdError as error:
            print(f"left out: {error}", file=sys.stderr)
            return
        if not isinstance(message, mertd.Embedding | mertd.Event):
            return
        key = (message.daemon, message.stream)
        room = self._rooms.setdefault(key, Room(*key))
        if not room.is_new(place.kind, message):
            return
        event = room.take(message)
        if room.told != room.discovery():
            await self._announce(room)
        is_old = age_s(message) > EXPIRE_S
        state = room.values["state"]
        if state in LASTING or (state is not None and not is_old):  # else it may have ended without a word
            await self._tell(room.subject, room.values)
        if event is not None and not is_old:
            await self._tell(f"{room.subject}.event", event)

    async def _announce(self, room: Room) -> None:
        room.told = room.discovery()
        await self._tell(f"homeassistant.device.{room.id}.config", room.told)

    async def _tell(self, subject: str, content: dict[str, Any]) -> None:
        await self._client.publish(subject, json.dumps(content, allow_nan=False).encode())


def finite(value: object) -> float | None:
    """Return a number for JSON, in which there is no infinity: the level of digital silence."""
    return round(float(value), 3) if isinstance(value, int | float) and math.isfinite(value) else None


def age_s(message: mertd.Embedding | mertd.Event) -> float:
    """Return how long ago a message was true."""
    return time.time() - (message.time.end_ns if isinstance(message, mertd.Embedding) else message.time_ns) / 1e9


async def main() -> None:
    servers = (sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222").split(",")
    credentials = sys.argv[2] if len(sys.argv) > 2 else None
    client = await nats.connect(
        servers, user_credentials=credentials, name="mertd for Home Assistant", max_reconnect_attempts=-1
    )
    await Bridge(client).run()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (Error, OSError) as error:
        sys.exit(f"the bus does not answer: {error}")
    except KeyboardInterrupt:
        pass

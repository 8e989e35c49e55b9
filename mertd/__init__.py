"""mertd: listens to a sound card and publishes what the music is like, as MERT-v1-95M embeddings over ZeroMQ."""

TYPE_CHECKING = False  # as `typing` has it, which is not worth loading here
if TYPE_CHECKING:
    from mertd.bus.subscribing import BusKeys, subscribe
    from mertd.errors import MertdError
    from mertd.memory.memory import Memory
    from mertd.stream.client.subscriber import Subscriber
    from mertd.stream.curve_keys import ClientKeys
    from mertd.wire import Embedding, Event, Status

__version__ = "0.1.0"
__all__ = [
    "BusKeys",
    "ClientKeys",
    "Embedding",
    "Event",
    "Memory",
    "MertdError",
    "Status",
    "Subscriber",
    "__version__",
    "subscribe",
]

_HOMES = {
    "MertdError": "mertd.errors",
    "Memory": "mertd.memory.memory",
    "ClientKeys": "mertd.stream.curve_keys",
    "Subscriber": "mertd.stream.client.subscriber",
    "subscribe": "mertd.bus.subscribing",
    "BusKeys": "mertd.bus.subscribing",
    "Embedding": "mertd.wire",
    "Event": "mertd.wire",
    "Status": "mertd.wire",
}


def __getattr__(name: str) -> object:
    """The client library, loaded when it is first used: commands that need none of it stay fast."""
    if name not in _HOMES:
        raise AttributeError(f"mertd has no {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

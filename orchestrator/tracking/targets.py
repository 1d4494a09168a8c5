"""Where runs are sent to: texts such as "tensorboard:/logs"."""

from collections.abc import Callable
from pathlib import Path

from metafleet.errors import ConfigError
from metafleet.orchestrator.tracking.sink import Sink
from metafleet.orchestrator.tracking.tensorboard import TensorBoardSink

_KINDS: dict[str, Callable[[str], Sink]] = {
    "tensorboard": lambda place: TensorBoardSink(Path(place).expanduser()),
}


def open_sink(target: str) -> Sink:
    """Return the sink of a target.

    Raises:
        ConfigError: the text does not have a known kind of sink and a place, or a library is not
            installed.
    """
    kind, colon, place = target.partition(":")
    if kind not in _KINDS or not colon or not place:
        raise ConfigError(f"METAFLEET_TRACK={target!r:.200}; expected tensorboard:FOLDER")
    return _KINDS[kind](place)

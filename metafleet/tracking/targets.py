"""Where runs are sent to: texts such as "tensorboard:/logs", and open runs of other programs."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from metafleet.errors import ConfigError
from metafleet.passwords import redact_url
from metafleet.tracking.files import FileSink
from metafleet.tracking.mlflow import MlflowSink
from metafleet.tracking.sink import Sink
from metafleet.tracking.tensorboard import TensorBoardSink
from metafleet.tracking.wandb import WandbSink

_KINDS: Final[dict[str, tuple[str, Callable[[str], Sink]]]] = {
    "tensorboard": ("FOLDER", lambda place: TensorBoardSink(Path(place).expanduser())),
    "mlflow": ("URI", MlflowSink),
    "wandb": ("PROJECT", lambda project: WandbSink("wandb", project)),
    "trackio": ("PROJECT", lambda project: WandbSink("trackio", project)),
    "jsonl": ("FOLDER", lambda place: FileSink(Path(place).expanduser(), "jsonl")),
    "parquet": ("FOLDER", lambda place: FileSink(Path(place).expanduser(), "parquet")),
}
KINDS: Final = tuple(_KINDS)
_FOLDERS: Final = tuple(kind for kind, (place, _) in _KINDS.items() if place == "FOLDER")
_SQLITE: Final = "sqlite:///"


def open_sink(target: Any) -> Sink:
    """Return the sink of a target.

    Args:
        target: a text such as "tensorboard:/logs" or "mlflow:http://host:5000", a sink, or an open
            run: the id or an object of an MLflow run, a run of W&B or Trackio, or a SummaryWriter
            of TensorBoard.

    Raises:
        ConfigError: the target is unknown, or a library is not installed.
    """
    if not isinstance(target, str):
        return _of_object(target)
    if re.fullmatch(r"[0-9a-f]{32}", target):
        return MlflowSink(run_id=target)
    kind, _, place = target.partition(":")
    if kind not in _KINDS or not place:
        raise _unknown(repr(shown_target(target)))
    return _KINDS[kind][1](place)


def check_targets(targets: Iterable[Any]) -> None:
    """Check targets before there is a run that could fail because of them.

    Raises:
        ConfigError: as for ``open_sink``.
    """
    for target in targets:
        open_sink(target)


def _of_object(target: Any) -> Sink:
    if hasattr(target, "logdir") and hasattr(target, "add_scalar"):
        return TensorBoardSink(place=Path(target.logdir))
    if hasattr(target, "log_dir") and hasattr(target, "add_scalar"):
        return TensorBoardSink(place=Path(target.log_dir))
    if hasattr(target, "info") and hasattr(target.info, "run_id"):
        return MlflowSink(run_id=target.info.run_id)
    library = type(target).__module__.partition(".")[0]
    if hasattr(target, "log") and hasattr(target, "finish"):
        if library == "wandb":
            return WandbSink("wandb", run=target)
        if library == "trackio":
            return WandbSink("trackio", run=target)
    if isinstance(target, Sink):
        return target
    raise _unknown(f"an object of type {type(target).__name__}")


def _unknown(found: str) -> ConfigError:
    *others, last = (f"{kind}:{place}" for kind, (place, _) in _KINDS.items())
    return ConfigError(
        f"{found} is no place to send runs to; expected {', '.join(others)} or {last}"
    )


def shown_target(target: Any) -> str:
    """Return a target for messages, without the password of its URL."""
    text = target if isinstance(target, str) else f"the given {type(target).__name__}"
    return redact_url(text)[:200]


def absolute_target(target: str) -> str:
    """Make the path in a target absolute, because servers work in another folder."""
    kind, colon, place = target.partition(":")
    if not place:
        return target
    if kind in _FOLDERS or (kind == "mlflow" and ":" not in place and place != "databricks"):
        return f"{kind}{colon}{Path(place).expanduser().absolute()}"
    file = place.removeprefix(_SQLITE)
    if kind == "mlflow" and file != place:
        return f"{kind}{colon}{_SQLITE}{Path(file).expanduser().absolute()}"
    return target

"""The models that a browser may choose: finished runs, and what the command line offers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from metafleet.db.records import RunStatus
from metafleet.db.repositories.runs import RunRepository

DEFAULT_ENCODERS: Final = (
    "image=package:efficientnet-lite0",
    "audio=package:speech-embedding",
    "text=package:wordllama",
)
_MOST_RUNS: Final = 50


@dataclass(frozen=True, slots=True)
class Base:
    """One model to adapt.

    Attributes:
        key: its name in forms.
        label: its name for people.
        group: heading of its group.
        request: what the process opens: {"run": id}, {"model": path} or {"encoder": KIND=NAME}.
    """

    key: str
    label: str
    group: str
    request: Mapping[str, Any] = field(default_factory=dict)


def list_bases(session: Connection, models: tuple[str, ...]) -> list[Base]:
    """Return pretrained encoders, models of the command line, and the newest finished runs."""
    runs = RunRepository(session).list(limit=_MOST_RUNS, status=RunStatus.FINISHED, archived=False)
    return [
        *(Base(f"encoder-{e}", e, "Pretrained encoders", {"encoder": e}) for e in DEFAULT_ENCODERS),
        *(Base(f"model-{m}", m, "Models", {"model": m}) for m in models),
        *(Base(f"run-{r.id}", f"{r.name} #{r.id}", "Finished runs", {"run": r.id}) for r in runs),
    ]

"""Waits until the lease of a dead orchestrator expires; a live one renews its lease."""

import time
from collections.abc import Callable
from typing import Final, TypeVar, cast

from metafleet.contracts.connections import connect, redis_errors, require_broker_url
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from metafleet.errors import RunLeasedError

_LONGEST_WAIT_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.25
OpenedT = TypeVar("OpenedT")


def once_free(
    settings: Settings,
    run: RunRecord,
    take: Callable[[], OpenedT],
    notify: Callable[[str], None],
) -> OpenedT:
    """Call ``take``. If another process has a lease on the run, wait for its end and call again.

    Raises:
        RunLeasedError: the lease did not expire because a live process renews it, or another
            process took the run first.
    """
    try:
        return take()
    except RunLeasedError as error:
        _await_end(settings, run, notify, error)
    try:
        return take()
    except RunLeasedError as error:  # another process was faster
        raise _leased(run, "another process") from error


def _await_end(
    settings: Settings, run: RunRecord, notify: Callable[[str], None], cause: RunLeasedError
) -> None:
    """Return when the lease has expired; raise if its owner renews it, and so is alive."""
    url, key = require_broker_url(settings), RunKeys(run.uid).lease
    began_at = time.monotonic()
    with redis_errors(url), connect(url) as client:
        owner, left_ms = cast(bytes | None, client.get(key)), cast(int, client.pttl(key))
        if owner is not None and 0 < left_ms <= 1e3 * _LONGEST_WAIT_S:
            notify(
                f"run {run.id} belongs to {_shown(owner)} for {max(1, round(left_ms / 1e3))} s "
                "more; waiting, in case that process died"
            )
        while owner is not None and client.get(key) == owner:
            now_ms = cast(int, client.pttl(key))
            is_renewed = now_ms > left_ms
            if is_renewed or time.monotonic() - began_at + now_ms / 1e3 > _LONGEST_WAIT_S:
                raise _leased(run, _shown(owner)) from cause
            left_ms = now_ms
            time.sleep(_LOOK_EVERY_S)


def _shown(owner: bytes) -> str:
    return owner.decode(errors="replace").split("/")[0]


def _leased(run: RunRecord, owner: str) -> RunLeasedError:
    return RunLeasedError(
        f"run {run.id} is being run by {owner}; watch it with `metafleet runs attach {run.id}`, or "
        f"stop it with `metafleet runs cancel {run.id}`"
    )

"""Computes one shard of a run's first step twice: a learner must reproduce the same bits."""

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from metafleet.errors import BlobMissingError, FencedError, FleetError
from metafleet.orchestrator.engine.computed import Computed, require_equal
from metafleet.orchestrator.engine.open_step import OpenStep
from metafleet.orchestrator.engine.step import TRAIN_STREAM, Shard, StepRequest

log = logging.getLogger(__name__)

_WATCHED: Final = 0
_MOST_LOOKS: Final = 5
"""How often a shard is resent until another process than the first one computes it."""


class SecondLook:
    """Lets workers compute one shard of a run's first step twice, and compares the results.

    For the second computation, a further step is opened, which has only this shard. The further
    step belongs to a separate stream (named sequence of steps), "train-again". The attempts of the
    second computation are counted under "train-again", and its sum is never used. The second
    computation runs in parallel with the first step.

    Args:
        open_step: opens a step with the given shards.
        finish: waits for a step, and raises an error if the step failed.
        close: closes a step.
        is_due: whether to compute a shard twice. If False, nothing is sent or compared.
        count_processes: returns the number of worker processes that compute jobs.
        notify: called with a message if no worker could compute the shard a second time.
    """

    def __init__(
        self,
        open_step: Callable[[StepRequest, tuple[Shard, ...]], OpenStep],
        finish: Callable[[OpenStep], None],
        close: Callable[[OpenStep], object],
        *,
        is_due: bool,
        count_processes: Callable[[], int],
        notify: Callable[[str], None],
    ) -> None:
        self._open_step, self._finish, self._close = open_step, finish, close
        self._is_due, self._notify = is_due, notify
        self._count_processes = count_processes
        self._first: OpenStep | None = None
        self._again: OpenStep | None = None

    def begin(self, step: OpenStep) -> OpenStep:
        """If ``step`` is the first step of a training, watch one of its shards; return ``step``."""
        request = step.request
        if self._is_due and self._first is None and request.stream == TRAIN_STREAM:
            self._first = step
            self._numbers = itertools.count(request.step)
            step.collector.watch(_WATCHED)
        return step

    def follow(self, step: OpenStep) -> None:
        """Resend the shard once its result is here, while the rest of ``step`` is computed."""
        if step is self._first and step.collector.seen is not None and not step.book.is_complete:
            self._again = self._again or self._send()

    def compare(self, step: OpenStep) -> None:
        """Wait for the second computation of a shard of the finished ``step``; compare the bits.

        Raises:
            ImpureError: the bits differ.
            FencedError: the run has another owner.
        """
        if step is not self._first or (seen := step.collector.seen) is None:
            return
        for _ in range(_MOST_LOOKS):
            try:
                again = self._wait()
            except FencedError:
                raise
            except (BlobMissingError, FleetError) as error:
                self._tell_of_none(step, str(error))
                break
            if again is None:
                self._tell_of_none(step, "no result was added up")
                break
            require_equal(step.name, seen, again)
            if again.worker != seen.worker or self._count_processes() < 2:
                break
        self._is_due = False

    def forget(self, step: OpenStep) -> None:
        """Close the second computation of ``step``, if it is open."""
        if step is self._first:
            self._first = None
            if (again := self._again) is not None:
                self._again = None
                self._close(again)

    def _send(self) -> OpenStep:
        assert self._first is not None
        request = self._first.request
        assert isinstance(request, StepRequest)  # of training
        again = replace(request, stream=f"{TRAIN_STREAM}-again", step=next(self._numbers))
        opened = self._open_step(again, self._first.shards[_WATCHED : _WATCHED + 1])
        opened.collector.watch(_WATCHED)
        return opened

    def _tell_of_none(self, step: OpenStep, why: str) -> None:
        self._notify(f"{step.name} was not computed twice to compare the bits: {why}")

    def _wait(self) -> Computed | None:
        again = self._again = self._again or self._send()
        try:
            self._finish(again)
        finally:
            self._again = None
            self._close(again)
        return again.collector.seen

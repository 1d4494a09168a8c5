"""Sends runs to W&B, or to a library with the same functions, such as Trackio."""

import importlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from metafleet.errors import ConfigError
from metafleet.tracking.mark_file import from_document, read_mark, to_document, write_mark
from metafleet.tracking.missing import missing
from metafleet.tracking.records import Mark, Row, TrackedRun

log = logging.getLogger(__name__)

_MARK: Final = "metafleet_mark"
_STEP: Final = "outer_step"
_STATUS: Final = "metafleet_status"
_PRINTING: Final = ("trackio", "trackio.run", "trackio.utils")


class WandbSink:
    """Writes runs to W&B or Trackio, by ``init``, ``log`` and ``finish``.

    The horizontal axis of W&B's charts is the metric ``outer_step``. The experiment is the group of
    the run. The sink's mark is a file in the folder of the library's own files. For W&B, it is also
    in the summary of the run, for runs that continue elsewhere.

    Args:
        library: "wandb" or "trackio".
        project: the project.
        run: an open run of the library, which is used instead of a new one. It stays open.

    Raises:
        ConfigError: the library is not installed, or W&B has no API key.
    """

    def __init__(
        self, library: Literal["wandb", "trackio"], project: str = "", *, run: Any = None
    ) -> None:
        self._is_wandb = library == "wandb"
        try:
            self._library = importlib.import_module(library)
        except ImportError as error:
            if self._is_wandb:
                raise missing("W&B", "wandb", error) from error
            raise ConfigError(f"Trackio is missing ({error}); pip install trackio") from error
        self._project, self._run, self._is_own = project, run, run is None
        self._tracked: TrackedRun | None = None
        self._exit_code = 0
        if self._is_wandb and self._is_own:
            _require_key(self._library)

    def open(self, run: TrackedRun) -> Mark:
        """Begin or continue the run. The configuration is stored with it."""
        self._tracked = run
        self._begin()
        remedy = f"delete {self._mark_file}"
        mark = read_mark(self._mark_file, run.uid, remedy=remedy)
        if mark is None and self._is_wandb and (text := self._run.summary.get(_MARK)):
            where = f"the summary of W&B run {self._run.id}"
            mark = from_document(json.loads(text), run.uid, where=where, remedy="export elsewhere")
        if mark is None:
            mark = Mark()
            write_mark(self._mark_file, run.uid, mark)
        self._pause()
        return mark

    def send(self, rows: Sequence[Row], mark: Mark) -> None:
        """Log one line for each step. Then store the mark."""
        assert self._tracked is not None
        self._begin()
        by_step: dict[int, dict[str, float]] = {}
        for row in rows:
            by_step.setdefault(row.step, {_STEP: row.step}).update(row.metrics)
        for step, metrics in sorted(by_step.items()):
            self._log(metrics, step)
        if self._is_wandb:
            self._run.summary[_MARK] = json.dumps(to_document(self._tracked.uid, mark))
        self._pause()
        write_mark(self._mark_file, self._tracked.uid, mark)

    def end(self, run: TrackedRun) -> None:
        """Store the status. W&B shows a run that failed or was cancelled as failed."""
        self._exit_code = 0 if run.status in ("finished", "running") else 1
        if self._is_wandb:
            self._run.summary[_STATUS] = run.status_text
        else:
            self._begin()
            self._log({_STATUS: run.status_text}, run.steps_done)

    def close(self) -> None:
        """Finish the run, unless it was open before."""
        run, self._run = self._run, None
        if run is not None and self._is_own:
            run.finish(**({"exit_code": self._exit_code} if self._is_wandb else {}))

    @property
    def _mark_file(self) -> Path:
        assert self._tracked is not None
        if self._is_wandb:
            folder = Path(self._run.dir).parent.parent
        else:
            folder = Path(importlib.import_module("trackio.utils").TRACKIO_DIR)
            folder.mkdir(parents=True, exist_ok=True)
        project = self._project or str(self._run.project)
        return folder / f"metafleet-{project}-{self._tracked.uid}.json"

    def _begin(self) -> None:
        """Begin or continue the run, unless it is open."""
        if self._run is not None:
            return
        assert self._tracked is not None
        run, library = self._tracked, self._library
        common = {"group": run.experiment, "config": run.params | {"metafleet_uid": run.uid}}
        if self._is_wandb:
            quiet = library.Settings(silent=True, console="off")
            self._run = library.init(
                project=self._project,
                id=run.uid,
                name=f"{run.name} seed {run.seed}",
                resume="allow",
                reinit="create_new",  # other runs of this process stay open
                settings=quiet,
                **common,
            )
            self._run.define_metric("*", step_metric=_STEP)
            return
        _silence()
        self._run = library.init(
            project=self._project,
            name=run.label,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
            **common,
        )

    def _pause(self) -> None:
        """Let Trackio write what it has in memory, which only ``finish`` does."""
        if self._is_own and not self._is_wandb:
            self.close()

    def _log(self, metrics: dict[str, Any], step: int) -> None:
        if self._is_wandb:
            # with W&B's own step, it would keep the last line in memory, and refuse earlier steps
            self._run.log(metrics)
        else:
            self._run.log(metrics, step=step)


def _require_key(wandb: Any) -> None:
    """Check that W&B need not ask for a key: the question would disturb the run."""
    settings = wandb.setup().settings
    if settings.mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ConfigError(
            "W&B has no API key; set WANDB_API_KEY, run `wandb login`, or set WANDB_MODE=offline"
        )


def _silence() -> None:
    """Send what Trackio prints to the log: standard output belongs to the command."""

    def note(*texts: object, **_: object) -> None:
        log.debug("%s", " ".join(map(str, texts)))

    for name in _PRINTING:
        vars(importlib.import_module(name))["print"] = note

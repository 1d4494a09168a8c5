"""Checkpoints: everything the next outer step depends on, in one safetensors file.

A checkpoint is written to a temporary file, flushed to the disk and renamed, so that a file under
its final name is always whole. The JSON part travels in the safetensors header.
"""

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from metafleet.errors import CheckpointError
from metafleet.params import MetaState, Params, digest, flatten_state, unflatten_state

log = logging.getLogger(__name__)

_FORMAT: Final = "metafleet-checkpoint-1"
_KEPT: Final = 3
_PART: Final = ".part-"
_RECENT: Final = "recent-"


@dataclass(frozen=True, slots=True)
class Progress:
    """The numbers of a checkpoint.

    Attributes:
        step: outer steps done.
        best_step: step of the best validation; 0 before the first.
        best_score: its score, higher is better; None before the first.
        validations_since_best: validations that brought nothing better.
        is_unjudged: the state is to be validated before training goes on.
    """

    step: int
    best_step: int = 0
    best_score: float | None = None
    validations_since_best: int = 0
    is_unjudged: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run stands.

    Attributes:
        progress: its numbers.
        state: the meta-learned state.
        moments: the outer optimiser's moments.
        best: the state of the best validation; None before the first.
        recent: the states of the steps before, newest last: as many as ``engine.max_staleness``
            wants and there are.
    """

    progress: Progress
    state: MetaState
    moments: Params
    best: MetaState | None
    recent: tuple[MetaState, ...] = ()

    @property
    def sha256(self) -> str:
        """Digest of all tensors: equal for runs that did the same arithmetic."""
        return digest(self.tensors())

    def version(self, step: int) -> MetaState:
        """Return the state after ``step``, this one or a recent one.

        Raises:
            CheckpointError: it is not here.
        """
        age = self.progress.step - step
        if not 0 <= age <= len(self.recent):
            raise CheckpointError(
                f"the checkpoint of step {self.progress.step} has no state of step {step}; it was "
                "written with another engine.max_staleness"
            )
        return (*self.recent, self.state)[-1 - age]

    def tensors(self) -> Params:
        """Give all tensors under the names they are stored by."""
        groups = {"state": flatten_state(self.state), "moments": self.moments}
        if self.best is not None:
            groups["best"] = flatten_state(self.best)
        for age, state in enumerate(reversed(self.recent), start=1):
            groups[f"{_RECENT}{age}"] = flatten_state(state)
        return {
            f"{group}:{name}": tensor
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint on disk: file, digest of its tensors, length in bytes."""

    path: Path
    sha256: str
    n_bytes: int


class CheckpointFolder:
    """The checkpoints of one run; the newest three are kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, checkpoint: Checkpoint) -> StoredCheckpoint:
        """Store a checkpoint, whole or not at all, then drop old ones.

        Raises:
            CheckpointError: the disk is full or refuses; earlier checkpoints are untouched.
        """
        sha256 = checkpoint.sha256
        progress = json.dumps(asdict(checkpoint.progress))
        data = save(
            # copies: right after a validation, ``best`` and ``state`` are the same tensors
            {name: tensor.clone() for name, tensor in checkpoint.tensors().items()},
            metadata={"format": _FORMAT, "progress": progress, "sha256": sha256},
        )
        path = self._folder / f"step-{checkpoint.progress.step:09d}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, data)
        except OSError as error:
            raise CheckpointError(
                f"checkpoint {path} of {len(data)} bytes cannot be written ({error.strerror}); "
                "free space or set METAFLEET_HOME elsewhere, then `metafleet runs resume`"
            ) from error
        for old in self._paths()[:-_KEPT]:
            old.unlink(missing_ok=True)
        return StoredCheckpoint(path, sha256, len(data))

    def read_newest(
        self, notify: Callable[[str], None] | None = None
    ) -> tuple[Checkpoint, StoredCheckpoint] | None:
        """Load the newest checkpoint that is whole; None when there is none at all.

        Args:
            notify: told which files are damaged and which step is used in their place; by default
                the log is.

        Raises:
            CheckpointError: there are checkpoints, and all of them are damaged.
        """
        paths = self._paths()
        damage: list[str] = []
        for path in reversed(paths):
            try:
                found = read_checkpoint(path)
            except CheckpointError as error:
                damage.append(str(error))
                continue
            if damage:
                step = found[0].progress.step
                (notify or log.warning)(f"{'; '.join(damage)}; going by step {step} instead")
            return found
        if damage:
            raise CheckpointError(
                f"no checkpoint in {self._folder} can be read: {'; '.join(damage)}; "
                "delete them to start the run from the beginning"
            )
        return None

    def discard_torn(self) -> None:
        """Delete what a process left that was killed while writing; for the run's owner alone."""
        for torn in self._folder.glob(f"{_PART}*"):
            torn.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.safetensors"))


def read_checkpoint(path: Path) -> tuple[Checkpoint, StoredCheckpoint]:
    """Load one checkpoint and check its digest.

    Raises:
        CheckpointError: missing, truncated, foreign or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(f"{path} is not a checkpoint of this version ({_FORMAT})")
        progress = Progress(**json.loads(metadata["progress"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error})") from error
    groups = _groups(tensors)
    best = groups.get("best")
    ages = range(sum(group.startswith(_RECENT) for group in groups), 0, -1)
    checkpoint = Checkpoint(
        progress=progress,
        state=unflatten_state(groups.get("state", {})),
        moments=groups.get("moments", {}),
        best=unflatten_state(best) if best else None,
        recent=tuple(unflatten_state(groups.get(f"{_RECENT}{age}", {})) for age in ages),
    )
    sha256 = checkpoint.sha256
    if sha256 != metadata.get("sha256"):
        raise CheckpointError(f"checkpoint {path} is damaged: its tensors hash to {sha256[:12]}...")
    return checkpoint, StoredCheckpoint(path, sha256, path.stat().st_size)


def _groups(tensors: dict[str, Tensor]) -> dict[str, Params]:
    groups: dict[str, Params] = {}
    for full_name, tensor in tensors.items():
        group, _, name = full_name.partition(":")
        groups.setdefault(group, {})[name] = tensor
    return groups


def _write_atomically(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:  # the rename itself must survive a power cut
        os.fsync(folder)
    finally:
        os.close(folder)

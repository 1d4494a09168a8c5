"""Checkpoints. A checkpoint is a safetensors file with all that the next outer step depends on.

A checkpoint is written to a temporary file, flushed to the disk and renamed, so that a file under
its final name is always complete. The safetensors header contains the run's ``TrainingProgress``.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from metafleet.errors import CheckpointError
from metafleet.files import PART, write_whole
from metafleet.orchestrator.training.checkpoint_header import (
    CheckpointHeader,
    Terms,
    TrainingProgress,
    first_difference,
)
from metafleet.params import MetaState, Params, digest, flatten_state, unflatten_state

log = logging.getLogger(__name__)

_KEPT: Final = 3
_ASIDE: Final = "set-aside-"
_RECENT: Final = "recent-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run after an outer step.

    Attributes:
        progress: the run's step and its validation results so far.
        state: the meta-learned state.
        moments: the outer optimiser's moments.
        best: the state that had the best validation; None before the first validation.
        recent: the states after each of the ``engine.max_staleness`` steps before this step, newest
            last. At the start of a run, there are fewer.
    """

    progress: TrainingProgress
    state: MetaState
    moments: Params
    best: MetaState | None
    recent: tuple[MetaState, ...] = ()

    @property
    def sha256(self) -> str:
        """Digest of all tensors; equal for runs with the same arithmetic."""
        return digest(self.tensors())

    def version(self, step: int) -> MetaState:
        """Return the state after ``step``, which is ``state`` or one of ``recent``.

        Raises:
            CheckpointError: the checkpoint does not contain this state.
        """
        age = self.progress.step - step
        if not 0 <= age <= len(self.recent):
            raise CheckpointError(
                f"the checkpoint of step {self.progress.step} has no state of step {step}; it was "
                "written with another engine.max_staleness"
            )
        return (*self.recent, self.state)[-1 - age]

    def tensors(self) -> Params:
        """Return all tensors under their names in the file."""
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
    """A checkpoint on disk.

    Attributes:
        path: the file.
        sha256: digest of the checkpoint's tensors.
        n_bytes: the file's size.
        terms: configuration and data digest of the run that wrote the checkpoint; empty if they are
            not stored.
    """

    path: Path
    sha256: str
    n_bytes: int
    terms: Terms = field(default_factory=dict)


class CheckpointFolder:
    """The folder of a run's checkpoints. Only the newest three checkpoints are kept.

    Args:
        folder: the folder, whose name is the run's uid.
        terms: the run's configuration and data digest, which determine the run's result. They are
            stored in each checkpoint. A checkpoint with other terms does not belong to the run.
    """

    def __init__(self, folder: Path, terms: Terms | None = None) -> None:
        self._folder, self._terms = folder, terms or {}

    def __str__(self) -> str:
        return str(self._folder)

    def write(self, checkpoint: Checkpoint) -> StoredCheckpoint:
        """Store a checkpoint atomically, then delete old ones.

        Raises:
            CheckpointError: the disk is full or not writable. Earlier checkpoints are not changed.
        """
        sha256 = checkpoint.sha256
        data = save(
            # copy: right after a validation, ``best`` and ``state`` are the same tensors
            {name: tensor.clone() for name, tensor in checkpoint.tensors().items()},
            metadata=CheckpointHeader(checkpoint.progress, self._terms, sha256).to_metadata(),
        )
        path = self._folder / f"step-{checkpoint.progress.step:09d}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            raise CheckpointError(
                f"checkpoint {path} of {len(data)} bytes cannot be written ({error.strerror}); "
                "free space or set METAFLEET_HOME elsewhere, then `metafleet runs resume "
                f"{self._folder.name}`"
            ) from error
        for old in self._paths()[:-_KEPT]:
            old.unlink(missing_ok=True)
        return StoredCheckpoint(path, sha256, len(data), self._terms)

    def read_newest(
        self, notify: Callable[[str], None] | None = None
    ) -> tuple[Checkpoint, StoredCheckpoint] | None:
        """Load the newest intact checkpoint. Return None if there are no checkpoints.

        Args:
            notify: receives a notice that names damaged files and the step whose checkpoint is used
                instead. By default, the notice is written to the log.

        Raises:
            CheckpointError: there are checkpoints, but all are damaged.
        """
        notify = notify or log.warning
        damage: list[str] = []
        for path in reversed(self._paths()):
            try:
                found = read_checkpoint(path, self._terms)
            except CheckpointError as error:
                damage.append(str(error))
                continue
            if damage:
                step = found[0].progress.step
                notify(f"{'; '.join(damage)}; going by step {step} instead")
            return found
        if damage:
            raise CheckpointError(
                f"no checkpoint in {self._folder} can be read: {'; '.join(damage)}; put intact "
                f"copies there, or begin again with `metafleet runs resume {self._folder.name} "
                "--from-start`"
            )
        return None

    def set_aside(self) -> int:
        """Rename all checkpoints, so that the run begins at step 0; return their number."""
        paths = self._paths()
        for path in paths:
            path.replace(path.with_name(f"{_ASIDE}{path.name}"))
        return len(paths)

    def discard_torn(self) -> None:
        """Delete partial files of a process killed while writing; only for the run's owner."""
        for torn in self._folder.glob(f"{PART}*"):
            torn.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.safetensors"))


def read_checkpoint(path: Path, terms: Terms | None = None) -> tuple[Checkpoint, StoredCheckpoint]:
    """Load one checkpoint, and check its digests and its terms.

    Args:
        path: the file.
        terms: the terms of the run that the checkpoint must belong to.

    Raises:
        CheckpointError: the file is missing, truncated, foreign or damaged, or has other terms.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = CheckpointHeader.from_metadata(file.metadata() or {})
            # clone: the alignment of a view depends on the header's length, and a view is lost when
            # the file is truncated
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        size = path.stat().st_size
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {path} {error}") from error
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error})") from error
    groups = _groups(tensors)
    best = groups.get("best")
    ages = range(sum(group.startswith(_RECENT) for group in groups), 0, -1)
    checkpoint = Checkpoint(
        progress=header.progress,
        state=unflatten_state(groups.get("state", {})),
        moments=groups.get("moments", {}),
        best=unflatten_state(best) if best else None,
        recent=tuple(unflatten_state(groups.get(f"{_RECENT}{age}", {})) for age in ages),
    )
    if not header.has_digest:
        log.warning("%s is of an earlier version: its numbers cannot be checked for damage", path)
    sha256 = checkpoint.sha256
    if sha256 != header.sha256:
        raise CheckpointError(f"checkpoint {path} is damaged: its tensors hash to {sha256[:12]}...")
    if difference := first_difference(header.terms, terms or {}):
        raise CheckpointError(f"checkpoint {path} was written with {difference}")
    return checkpoint, StoredCheckpoint(path, sha256, size, header.terms)


def _groups(tensors: dict[str, Tensor]) -> dict[str, Params]:
    groups: dict[str, Params] = {}
    for full_name, tensor in tensors.items():
        group, _, name = full_name.partition(":")
        groups.setdefault(group, {})[name] = tensor
    return groups

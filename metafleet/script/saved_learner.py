"""The file format of ``MetaLearner``: safetensors, with a JSON header in its metadata.

module.<name>                 the module's ``state_dict``
learned.<name>                the learner's own parameters
statistics.<name>             batch norm statistics that the module has no buffers for
optimiser.<index>.<moment>    the outer optimiser's state for each learned parameter
"""

import dataclasses
from pathlib import Path
from typing import Final

import torch

from metafleet.errors import CheckpointError, MetafleetError
from metafleet.files import write_whole
from metafleet.options import parse_options
from metafleet.params import Params, digest, named, parted
from metafleet.script import saved_optimiser
from metafleet.script.binding import Algorithm
from metafleet.script.bound import Bound
from metafleet.script.learning import Learning
from metafleet.script.saved_header import SavedHeader

_KEY: Final = "metafleet"
_OPTIMISER: Final = "optimiser"


def save(path: Path, bound: Bound, *, step: int) -> None:
    """Write the file. An existing file is replaced only when the new file is complete.

    Raises:
        CheckpointError: the file cannot be written.
    """
    from safetensors.torch import save as to_bytes  # noqa: PLC0415 - only files need it

    optimiser = bound.optimiser
    moments, scalars = ({}, {}) if optimiser is None else saved_optimiser.split(optimiser)
    tensors = _targets(bound) | named(_OPTIMISER, moments)
    # clones: tied parameters share memory, which the format does not support
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    binding = bound.binding
    inputs = binding.factory.inputs
    header = SavedHeader(
        algorithm=binding.algorithm.name,
        options=dataclasses.asdict(binding.algorithm.options),
        step=step,
        n_support=len(next(iter(inputs.values()))) if inputs else 1,
        inputs={
            name: [list(value.shape[1:]), str(value.dtype).removeprefix("torch.")]
            for name, value in inputs.items()
        },
        n_way=binding.n_way,
        target_dim=binding.problem.target_dim,
        groups=() if optimiser is None else tuple(saved_optimiser.groups_of(optimiser)),
        scalars=scalars,
        tensors=digest(own),
    )
    data = to_bytes(own, {_KEY: header.to_text()})
    try:
        write_whole(path, data)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error}; expected a folder with room"
        ) from error


def load(path: Path, learning: Learning) -> None:
    """Load a file that ``save`` wrote. If the file does not fit, nothing is changed.

    Raises:
        CheckpointError: the file is missing or damaged, or it belongs to another module, algorithm
            or optimiser.
    """
    before, asked = (learning.bound, learning.algorithm), learning.asked
    try:
        header, tensors = _read(path)
        rate = header.options.get("inner_lr")
        # use the default step size of the file's way of training, unless the user set one
        for algorithm in (asked, asked.for_losses()):
            if rate is not None and rate == getattr(algorithm.options, "inner_lr", None):
                learning.use(algorithm)
        _check_algorithm(header, learning.algorithm)
        if not header.inputs:
            learning.bind_to_losses()
        elif learning.bound is None or not learning.bound.binding.is_seen:
            learning.bind(*header.example(learning.like))
        bound = learning.require_bound()
        if header.inputs or not bound.binding.is_seen:
            bound.binding.check(header.n_way)
        _restore(bound, header, tensors)
    except Exception as error:  # a forged file can make torch or the user's module raise any
        learning.bound, learning.algorithm = before
        reason = str(error).partition("\n")[0]
        if not isinstance(error, MetafleetError):
            reason = f"it is damaged, or of another learner ({type(error).__name__}: {reason:.100})"
        raise CheckpointError(f"{path} cannot be loaded: {reason:.300}") from error
    learning.step = header.step
    learning.is_decided = header.step > 0 or learning.algorithm != asked


def _read(path: Path) -> tuple[SavedHeader, Params]:
    """Read a file and check its digests."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - only files need it

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = SavedHeader.from_text((file.metadata() or {}).get(_KEY, ""))
            # clones: the mapped memory becomes invalid if the file is truncated
            tensors = {name: file.get_tensor(name).clone() for name in sorted(file.keys())}
    except FileNotFoundError as error:
        raise CheckpointError("it does not exist; expected a file of MetaLearner.save") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"it is no sound file ({error}); use another copy") from error
    if digest(tensors) != header.tensors:
        raise CheckpointError(
            "it is damaged: its tensors do not hash to their digest; use another copy"
        )
    return header, tensors


def _check_algorithm(header: SavedHeader, algorithm: Algorithm) -> None:
    """Reject a file of another algorithm, or of the same one with other options."""
    if header.algorithm != algorithm.name:
        raise CheckpointError(
            f"it is of algorithm {header.algorithm!r:.40}, not of {algorithm.name!r}"
        )
    known = algorithm.options
    # options added after the file was written have defaults that change nothing
    saved = parse_options(type(known), header.options, where="another version's learner")
    for field in dataclasses.fields(known):
        was, now = getattr(saved, field.name), getattr(known, field.name)
        if was != now:
            raise CheckpointError(
                f"it was learned with {field.name}={was!r:.40}, not {now!r}; expected the same "
                "options"
            )


def _restore(bound: Bound, header: SavedHeader, tensors: Params) -> None:
    """Copy the file's tensors into the learner; nothing is changed if one does not fit."""
    targets, moments = _targets(bound), parted(tensors, _OPTIMISER)
    names = tensors.keys() - named(_OPTIMISER, moments).keys()
    if names != targets.keys():
        name = min(names ^ targets.keys())
        where = "is not in it" if name in targets else "is only in it"
        raise CheckpointError(f"tensor {name!r:.60} {where}; expected the same module")
    for name, target in targets.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (target.shape, target.dtype):
            raise CheckpointError(
                f"tensor {name!r} is {found.dtype} {tuple(found.shape)}; expected {target.dtype} "
                f"{tuple(target.shape)}: the same module, of the same precision"
            )
    if bound.optimiser is not None:
        saved_optimiser.restore(bound.optimiser, moments, header.scalars, header.groups)
    elif moments or header.groups or header.scalars:
        raise CheckpointError("it has an outer optimiser, and nothing is learned here")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def _targets(bound: Bound) -> Params:
    """Return the live learned tensors by their names in the file.

    Complex tensors are viewed as pairs of real numbers, because the format has no complex dtype.
    """
    tensors = {
        **named("module", bound.binding.factory.function.module.state_dict()),
        **named("learned", {n: value.detach() for n, value in bound.state.own_params.items()}),
        **named("statistics", bound.state.own_buffers),
    }
    return {name: saved_optimiser.as_real(value) for name, value in tensors.items()}

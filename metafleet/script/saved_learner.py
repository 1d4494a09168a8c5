"""A ``MetaLearner`` in a file: safetensors, with a JSON header in its metadata.

module.<name>                 the module's ``state_dict``
learned.<name>                parameters of the learner's own
statistics.<name>             batch norm statistics that have no place in the module
optimiser.<index>.<moment>    what the outer optimiser keeps for each learned parameter
"""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from metafleet.errors import CheckpointError, MetafleetError
from metafleet.params import Params, digest, named, parted
from metafleet.script import saved_optimiser
from metafleet.script.binding import Algorithm
from metafleet.script.bound import Bound
from metafleet.script.learning import Learning
from metafleet.script.saved_header import Header

_KEY: Final = "metafleet"
_OPTIMISER: Final = "optimiser"


def save(path: Path, bound: Bound, *, step: int) -> None:
    """Write the file; one that is there stays until the new one is whole.

    Raises:
        CheckpointError: it cannot be written.
    """
    from safetensors.torch import save as to_bytes  # noqa: PLC0415 - files alone need it

    optimiser = bound.optimiser
    moments, scalars = ({}, {}) if optimiser is None else saved_optimiser.split(optimiser)
    tensors = _targets(bound) | named(_OPTIMISER, moments)
    # clones: tied parameters share memory, which the format does not know
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    binding = bound.binding
    inputs = binding.factory.inputs
    header = Header(
        algorithm=binding.algorithm.name,
        options=_json_options(binding.algorithm),
        step=step,
        n_support=len(next(iter(inputs.values()))) if inputs else 1,
        inputs={
            name: (list(value.shape[1:]), str(value.dtype).removeprefix("torch."))
            for name, value in inputs.items()
        },
        n_way=binding.n_way,
        target_dim=binding.problem.target_dim,
        groups=[] if optimiser is None else saved_optimiser.groups_of(optimiser),
        scalars=scalars,
        tensors=digest(own),
    )
    data = to_bytes(own, {_KEY: header.to_text()})
    try:
        _write(path, data)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error}; expected a folder with room"
        ) from error


def read_header(path: Path) -> Header:
    """Read what the file is of.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    with _open(path) as file:
        return Header.from_text((file.metadata() or {}).get(_KEY, ""), path)


def check_algorithm(path: Path, header: Header, algorithm: Algorithm) -> None:
    """Refuse a file that something else learned.

    Raises:
        CheckpointError: it is of another algorithm or other options.
    """
    if header.algorithm != algorithm.name:
        raise CheckpointError(
            f"{path} is of algorithm {header.algorithm!r:.40}, not of {algorithm.name!r}"
        )
    known = _json_options(algorithm)
    # an option that came after the file was written has a default that changes nothing
    options = _defaults(algorithm) | header.options
    if options.keys() != known.keys():
        name = min(options.keys() ^ known.keys())
        whose = "this version has not" if name in options else "it does not say"
        raise CheckpointError(f"{path} was learned by another version: {whose} {name!r:.40}")
    for name, value in known.items():
        if options[name] != value:
            raise CheckpointError(
                f"{path} was learned with {name}={options[name]!r:.40}, not {value!r}; expected "
                "the same options"
            )


def restore(path: Path, bound: Bound, header: Header) -> None:
    """Put the file's tensors where they belong; nothing is changed if one does not fit.

    Raises:
        CheckpointError: the file is damaged, or of another module or optimiser.
    """
    targets = _targets(bound)
    with _open(path) as file:
        shown = {name: _shown(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118 - no dict
        _check(path, bound, header, shown)
        tensors = {name: file.get_tensor(name) for name in sorted(shown)}
    if digest(tensors) != header.tensors:
        raise CheckpointError(
            f"{path} is damaged: its tensors do not hash to their digest; use another copy"
        )
    if bound.optimiser is not None:
        moments = parted(tensors, _OPTIMISER)
        saved_optimiser.restore(bound.optimiser, moments, header.scalars, header.groups)
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def load(path: Path, learning: Learning) -> None:
    """Take back what ``save`` wrote; nothing is changed if it does not fit.

    Raises:
        CheckpointError: the file is missing, damaged, or of another module, algorithm or optimiser.
    """
    header = read_header(path)
    before = learning.bound, learning.algorithm
    asked, rate = learning.asked, header.options.get("inner_lr")
    try:
        # the default of whichever way of training wrote the file, where none was given here
        for algorithm in (asked, asked.for_losses()):
            if rate is not None and rate == getattr(algorithm.options, "inner_lr", None):
                learning.use(algorithm)
        check_algorithm(path, header, learning.algorithm)
        if not header.inputs:
            learning.bind_to_losses()
        elif learning.bound is None or not learning.bound.binding.is_seen:
            learning.bind(*header.example(learning.like))
        bound = learning.require_bound()
        if header.inputs or not bound.binding.is_seen:
            bound.binding.check(header.n_way)
        restore(path, bound, header)
    except MetafleetError as error:
        learning.bound, learning.algorithm = before
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} does not fit: {error}") from error
    learning.step = header.step
    learning.is_decided = header.step > 0 or learning.algorithm != asked


def _check(path: Path, bound: Bound, header: Header, shown: Mapping[str, Tensor]) -> None:
    """Hold names, shapes and types of a file's tensors against what is learned."""
    targets = _targets(bound)
    moments = parted(shown, _OPTIMISER)
    names = shown.keys() - named(_OPTIMISER, moments).keys()
    if names != targets.keys():
        name = min(names ^ targets.keys())
        where = "is not in" if name in targets else "is only in"
        raise CheckpointError(f"tensor {name!r:.60} {where} {path}; expected the same module")
    for name, target in targets.items():
        saved_optimiser.require_alike(name, shown[name], target, path)
    if bound.optimiser is not None:
        saved_optimiser.check_groups(bound.optimiser, header.groups, path)
        saved_optimiser.check_moments(bound.optimiser, moments, header.scalars, path)
    elif moments or header.groups or header.scalars:
        raise CheckpointError(f"{path} has an outer optimiser, and nothing is learned here")


def _targets(bound: Bound) -> Params:
    """Return the tensors that are learned, under their names in the file, where they live.

    Those of complex numbers are seen as pairs of real ones: the format has no others.
    """
    tensors = {
        **named("module", bound.binding.factory.function.module.state_dict()),
        **named("learned", {n: value.detach() for n, value in bound.state.own_params.items()}),
        **named("statistics", bound.state.own_buffers),
    }
    return {name: saved_optimiser.as_real(value) for name, value in tensors.items()}


def _json_options(algorithm: Algorithm) -> dict[str, Any]:
    """Return the options as they come back from JSON."""
    options: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(algorithm.options)))
    return options


def _defaults(algorithm: Algorithm) -> dict[str, Any]:
    """Return the options that have a default, with it, as they come back from JSON."""
    missing = dataclasses.MISSING
    fields = dataclasses.fields(algorithm.options)
    found = {field.name: field.default for field in fields if field.default is not missing}
    options: dict[str, Any] = json.loads(json.dumps(found))
    return options


def _shown(found: Any) -> Tensor:
    """Return a tensor of the shape and type of one in a file, without its content."""
    shape = found.get_shape()
    nothing = found[:0] if shape else found[...]
    return torch.empty(shape, dtype=nothing.dtype, device="meta")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - files alone need it

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist; expected a file of MetaLearner.save"
        ) from error
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise CheckpointError(f"{path} cannot be read: {reason}; use another copy") from error


def _write(path: Path, data: bytes) -> None:
    """Write beside, then rename."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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

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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.errors import CheckpointError
from metafleet.params import Params
from metafleet.script.binding import Algorithm
from metafleet.script.bound import Bound

_KEY = "metafleet"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says besides tensors.

    Attributes:
        algorithm, options: of the learner.
        step: outer steps done.
        n_support: examples that it was bound to.
        inputs: input -> shape of one example and dtype, such as "float32".
        n_way: classes; 0 where targets are values, target_dim of them for each example.
        target_dim: see ``n_way``.
        groups: the optimiser's groups without their parameters.
        scalars: numbers that the optimiser keeps, "<index>.<moment>" -> value.
    """

    algorithm: str
    options: dict[str, Any]
    step: int
    n_support: int
    inputs: dict[str, tuple[list[int], str]]
    n_way: int
    target_dim: int
    groups: list[dict[str, Any]]
    scalars: dict[str, float]

    def example(self, like: Tensor) -> tuple[ExampleSet, int]:
        """Return examples, zeros, of the shapes that were learned from, and their n_way."""
        n = self.n_support
        inputs = {
            name: torch.zeros(n, *shape, dtype=getattr(torch, dtype), device=like.device)
            for name, (shape, dtype) in self.inputs.items()
        }
        if self.n_way > 0:
            targets = torch.arange(n, device=like.device) % self.n_way
            return ExampleSet(inputs, targets), self.n_way
        return ExampleSet(inputs, like.new_zeros(n, self.target_dim)), 0


def save(path: Path, bound: Bound, *, step: int) -> None:
    """Write the file; one that is there stays until the new one is whole.

    Raises:
        CheckpointError: it cannot be written.
    """
    from safetensors.torch import save as to_bytes  # noqa: PLC0415 - files alone need it

    moments, scalars = _split(bound)
    header = _header(bound, step, scalars)
    tensors = _targets(bound) | moments
    # clones: tied parameters share memory, which the format does not know
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    data = to_bytes(own, {_KEY: json.dumps(dataclasses.asdict(header) | {"format": _FORMAT})})
    try:
        _write(path, data)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error}; expected a folder with room"
        ) from error


def read_header(path: Path, algorithm: Algorithm) -> Header:
    """Read what the file is of.

    Raises:
        CheckpointError: it is missing, damaged, or of another algorithm or other options.
    """
    with _open(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    try:
        values = json.loads(text or "")
        version = values.pop("format")
        header = Header(**values)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} was not written by MetaLearner.save") from error
    if version != _FORMAT:
        raise CheckpointError(f"{path} has format {version}; this version reads {_FORMAT}")
    if header.algorithm != algorithm.name:
        raise CheckpointError(
            f"{path} is of algorithm {header.algorithm!r}, not of {algorithm.name!r}"
        )
    options = json.loads(json.dumps(dataclasses.asdict(algorithm.options)))
    if header.options != options:
        name = next(n for n in options if header.options.get(n) != options[n])
        raise CheckpointError(
            f"{path} was learned with {name}={header.options.get(name)!r}, not {options[name]!r}; "
            "expected the same options"
        )
    return header


def restore(path: Path, bound: Bound, header: Header) -> None:
    """Put the file's tensors where they belong; nothing is changed if one does not fit.

    Raises:
        CheckpointError: the file is damaged, or of another module or optimiser.
    """
    targets = _targets(bound)
    params = list(bound.state.params.values())
    with _open(path) as file:
        names = set(file.keys())
        moments = {name for name in names if name.startswith("optimiser.")}
        if names - moments != targets.keys():
            name = min((names - moments) ^ targets.keys())
            where = "is not in" if name in targets else "is only in"
            raise CheckpointError(f"tensor {name!r} {where} {path}; expected the same module")
        for name in sorted(names):
            like = targets.get(name)
            shape = tuple(file.get_slice(name).get_shape())
            allowed = _moment_shapes(name, params) if like is None else (tuple(like.shape),)
            if shape not in allowed:
                raise CheckpointError(
                    f"tensor {name!r} has shape {shape} in {path}; expected {allowed[0]}"
                )
        tensors = {name: file.get_tensor(name) for name in sorted(names)}
    _restore_optimiser(path, bound, header, {n: tensors[n] for n in moments})
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def _header(bound: Bound, step: int, scalars: dict[str, float]) -> Header:
    algorithm, problem = bound.binding.algorithm, bound.binding.problem
    groups = bound.optimiser.state_dict()["param_groups"] if bound.optimiser else []
    return Header(
        algorithm=algorithm.name,
        options=dataclasses.asdict(algorithm.options),
        step=step,
        n_support=len(next(iter(bound.binding.factory.inputs.values()))),
        inputs={
            name: (list(value.shape[1:]), str(value.dtype).removeprefix("torch."))
            for name, value in bound.binding.factory.inputs.items()
        },
        n_way=bound.binding.n_way,
        target_dim=problem.target_dim,
        groups=[{key: _plain(key, v) for key, v in g.items() if key != "params"} for g in groups],
        scalars=scalars,
    )


def _targets(bound: Bound) -> Params:
    """Return the tensors that are learned, under their names in the file, where they live."""
    module = bound.binding.factory.function.module
    return {
        **{f"module.{name}": value for name, value in module.state_dict().items()},
        **{f"learned.{name}": value.detach() for name, value in bound.state.own_params.items()},
        **{f"statistics.{name}": value for name, value in bound.state.own_buffers.items()},
    }


def _split(bound: Bound) -> tuple[Params, dict[str, float]]:
    """Return what the optimiser keeps: tensors, and numbers."""
    tensors: Params = {}
    scalars: dict[str, float] = {}
    kept = bound.optimiser.state_dict()["state"] if bound.optimiser else {}
    for index, moments in kept.items():
        for moment, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{moment}"] = value
            elif value is not None:
                scalars[f"{index}.{moment}"] = _plain(moment, value)
    return tensors, scalars


def _restore_optimiser(
    path: Path, bound: Bound, header: Header, moments: Mapping[str, Tensor]
) -> None:
    if bound.optimiser is None:
        return
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*moments.items(), *(("." + n, v) for n, v in header.scalars.items())]:
        _, index, moment = name.split(".", 2)
        state.setdefault(int(index), {})[moment] = value
    now = bound.optimiser.state_dict()["param_groups"]
    known, found = [sorted(g.keys() - {"params"}) for g in now], [sorted(g) for g in header.groups]
    if known != found:
        raise CheckpointError(f"{path} is of another outer optimiser; expected the same")
    groups = [
        {key: tuple(v) if isinstance(v, list) else v for key, v in saved.items()}
        | {"params": group["params"]}
        for saved, group in zip(header.groups, now, strict=True)
    ]
    bound.optimiser.load_state_dict({"state": state, "param_groups": groups})


def _moment_shapes(name: str, params: list[Any]) -> tuple[tuple[int, ...], ...]:
    """Return what shapes an optimiser's tensor may have: its parameter's, or none."""
    _, index, _ = name.split(".", 2)
    if not index.isdigit() or int(index) >= len(params):
        return ((),)
    return (tuple(params[int(index)].shape), ())


def _plain(key: str, value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, Tensor) and value.dim() == 0:
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"the outer optimiser keeps {key!r}, a {type(value).__name__}; expected tensors and numbers"
    )


@contextlib.contextmanager
def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - files alone need it

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist; expected a file of MetaLearner.save"
        ) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


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

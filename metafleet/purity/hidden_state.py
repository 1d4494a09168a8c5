"""The hidden state of a computation: state that it reads or changes, other than its arguments.

A learner should be a function of its state and an episode. But a user's module may draw random
numbers, count its calls, or keep averages in buffers. Some code repeats a computation, or runs
several computations that must not depend on one another. Such code captures the hidden state before
a computation, and restores it afterwards.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from metafleet.interrupts import uninterrupted
from metafleet.purity.generators import Generators, GeneratorStates
from metafleet.purity.kept_values import (
    Clones,
    Path,
    has_changed,
    is_generator,
    keep,
    put_back,
    tensors_in,
)

_TORCHS: Final = frozenset(nn.Module().__dict__)
"""Attributes that torch itself sets on a module, including its mode, which other code sets."""
_ABSENT: Final = object()
BUFFERS: Final = "buffer"
_PARAMETERS: Final = "parameter"
_ATTRIBUTES: Final = "attribute"
KINDS: Final = (BUFFERS, _PARAMETERS, _ATTRIBUTES)
"""Kinds of slots."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A hidden state at one time.

    Attributes:
        values: one mapping for each group of slots: name of a slot -> the slot's value, as ``keep``
            returned it.
        generators: states of the generators; None if they were not captured.
    """

    values: list[dict[str, Any]]
    generators: GeneratorStates | None


@dataclass(frozen=True, slots=True)
class Change:
    """A slot whose value has changed.

    Attributes:
        name: description of the slot, for example "buffer 'norm.u'".
        kind: "buffer", "parameter" or "generator"; "attribute" for anything else.
        is_number: whether the earlier value was a number.
    """

    name: str
    kind: str
    is_number: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """Slots of one object: either its buffers, its parameters or its attributes.

    Attributes:
        name: name of the object; "" for the outermost object.
        owner: the object.
        kind: one of ``KINDS``.
    """

    name: str
    owner: Any
    kind: str

    @property
    def slots(self) -> dict[str, Any]:
        """Name -> value; this is the object's own dict, so writing to it changes the object."""
        found: dict[str, Any]
        if self.kind == _ATTRIBUTES:
            found = self.owner.__dict__
        else:
            found = self.owner._buffers if self.kind == BUFFERS else self.owner._parameters
        return found

    def items(self) -> dict[str, Any]:
        """Return the slots without torch's own attributes."""
        if self.kind != _ATTRIBUTES:
            return self.slots
        own = self.owner.__dict__
        return {name: own[name] for name in own if name not in _TORCHS}

    def name_of(self, slot: str) -> str:
        full = f"{self.name}.{slot}" if self.name else slot
        return f"{self.kind} {full!r}"


class HiddenState:
    """The state of modules, of the objects that hold these modules, and of global generators.

    Args:
        roots: learners, models or modules. Modules in the attributes of a root are included.
        devices: torch devices on which the roots compute.
        kinds: kinds of slots to include: "buffer", "parameter", "attribute".
    """

    def __init__(
        self,
        *roots: object,
        devices: Iterable[torch.device | str] = (),
        kinds: Collection[str] = KINDS,
    ) -> None:
        self.generators = Generators(devices)
        self._groups = [
            group
            for name, owner in _owners(roots)
            for group in _groups(name, owner)
            if group.kind in kinds
        ]
        self._clones: Clones = {}

    def capture(self, *, generators: bool = True) -> Snapshot:
        """Return the current state; values unchanged since the last call share its copies."""
        clones: Clones = {}
        values = [
            {name: keep(value, clones, self._clones) for name, value in group.items().items()}
            for group in self._groups
        ]
        self._clones = clones
        return Snapshot(values, self.generators.capture() if generators else None)

    def restore(self, snapshot: Snapshot, instead: Mapping[Path, Tensor] | None = None) -> None:
        """Restore a state that ``capture`` returned.

        Args:
            snapshot: a snapshot of this hidden state.
            instead: path of a tensor, as in ``linked`` -> tensor that replaces the captured tensor.
        """
        for index, (group, values) in enumerate(zip(self._groups, snapshot.values, strict=True)):
            slots, now = group.slots, group.items()
            if now.keys() != values.keys():
                for name in now.keys() - values.keys():
                    del slots[name]
            for name, kept in values.items():
                value = now.get(name, _ABSENT)
                if (
                    value is not kept
                    and (was := put_back(kept, (index, name), instead)) is not value
                ):
                    slots[name] = was
        if snapshot.generators is not None:
            self.generators.restore(snapshot.generators)

    def restore_tensors(self, snapshot: Snapshot) -> None:
        """Restore slots that hold tensors; other slots keep their current values."""
        for index, values, group, name in self._with_tensors(snapshot):
            if name in values:
                group.slots[name] = put_back(values[name], (index, name))
            else:
                del group.slots[name]

    def touched(self, snapshot: Snapshot) -> list[tuple[object, str]]:
        """Return the objects and names of attributes with tensors that have changed."""
        return [
            (group.owner, name)
            for _, values, group, name in self._with_tensors(snapshot)
            if group.kind == _ATTRIBUTES
            and (name not in values or has_changed(values[name], group.slots[name]))
        ]

    def _with_tensors(
        self, snapshot: Snapshot
    ) -> Iterator[tuple[int, dict[str, Any], _Group, str]]:
        for index, (group, values) in enumerate(zip(self._groups, snapshot.values, strict=True)):
            for name, value in list(group.items().items()):
                if next(tensors_in(value, ()), None) is not None:
                    yield index, values, group, name

    @contextmanager
    def starting_from(self, start: Snapshot) -> Iterator[None]:
        """Run the block from the state ``start``; then restore modules, but not generators."""
        outside = self.capture(generators=False) if self.changes(start) else start
        if outside is not start:
            self.restore(start)
        elif start.generators is not None:
            self.generators.restore(start.generators)
        try:
            yield
        finally:
            with uninterrupted():
                self.restore(Snapshot(outside.values, None))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Restore modules after the block, but not generators."""
        before = self.capture(generators=False)
        try:
            yield
        finally:
            with uninterrupted():
                self.restore(before)

    def changes(self, snapshot: Snapshot) -> list[Change]:
        """Return the slots that have changed; global generators are not compared."""
        found = []
        for group, values in zip(self._groups, snapshot.values, strict=True):
            now = group.items()
            names = values if now.keys() == values.keys() else sorted(now.keys() | values.keys())
            for name in names:
                was, value = values.get(name, _ABSENT), now.get(name, _ABSENT)
                if was is value or not has_changed(was, value):
                    continue
                kind = "generator" if is_generator(was) else group.kind
                found.append(Change(group.name_of(name), kind, isinstance(was, int | float)))
        return found

    def tensors(self) -> dict[Path, Tensor]:
        """Return the tensors of the state, except parameters, by path."""
        return {
            path: tensor
            for index, group in enumerate(self._groups)
            if group.kind != _PARAMETERS
            for name, value in group.items().items()
            for path, tensor in tensors_in(value, (index, name))
        }

    def linked(self) -> dict[Path, Tensor]:
        """Return the tensors that carry an autograd graph, by path."""
        return {path: tensor for path, tensor in self.tensors().items() if tensor.grad_fn}

    def unlink(self) -> frozenset[Path]:
        """Detach the tensors that carry an autograd graph; return their paths."""
        linked = self.linked()
        views = {path: tensor.detach() for path, tensor in linked.items() if tensor._is_view()}
        for path, tensor in linked.items():
            if path not in views:
                tensor.detach_()  # keeps the object, for example a buffer written in place
        if views:  # views cannot be detached in place
            self.restore(self.capture(generators=False), views)
        return frozenset(linked)


def _owners(roots: Sequence[object]) -> Iterator[tuple[str, object]]:
    """Yield the name of each module or model that objects hold, and the module or model."""
    waiting = [("", root) for root in roots]
    seen: set[int] = set()
    while waiting:
        name, owner = waiting.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        yield name, owner
        if isinstance(owner, nn.Module):
            waiting += [(f"{name}.{n}" if name else n, m) for n, m in owner.named_children()]
        held = [
            item
            for key, value in getattr(owner, "__dict__", {}).items()
            if not (isinstance(owner, nn.Module) and key in _TORCHS)
            for item in _one_or_several(value)
        ]
        waiting += [("", item) for item in reversed(held) if _holds_state(item)]


def _one_or_several(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else (value,)


def _holds_state(value: object) -> bool:
    """Return whether a value is a module, a model, or a function made from a module."""
    if isinstance(value, type):
        return False
    if isinstance(value, nn.Module) or hasattr(type(value), "init_params"):
        return True
    return isinstance(getattr(value, "__dict__", {}).get("module"), nn.Module)


def _groups(name: str, owner: object) -> list[_Group]:
    kinds = [BUFFERS, _PARAMETERS] if isinstance(owner, nn.Module) else []
    if hasattr(owner, "__dict__"):
        kinds.append(_ATTRIBUTES)
    return [_Group(name, owner, kind) for kind in kinds]

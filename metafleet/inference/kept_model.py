"""What a model's folder holds, in the form in which all models have it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from metafleet.errors import MetafleetError, ModelError
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.model_folder import read_header, read_tensors
from metafleet.inference.provenance import Provenance
from metafleet.inference.requirements import Needs
from metafleet.inference.state_layout import expected_layout
from metafleet.learners.base import Learner
from metafleet.params import MetaState, Params, flatten_state, named, parted, unflatten_state


@dataclass(frozen=True, slots=True)
class Learned:
    """What a run learned, with what it is built from.

    Attributes:
        blueprint: what it is built from.
        learner: built from it.
        state: the learned state.
        origin: where it comes from.
        allowed_packages: packages of the user's that it may be built from.
    """

    blueprint: Blueprint
    learner: Learner
    state: MetaState
    origin: Provenance
    allowed_packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A model without its methods.

    Attributes:
        learned: what the run learned.
        memory, classes, needs: as of ``AdaptedModel``; needs are None of a model that adapted to
            nothing yet.
    """

    learned: Learned
    memory: Params = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    needs: Needs | None = None

    def header(self) -> dict[str, Any]:
        """Return all but the tensors, in JSON values."""
        header: dict[str, Any] = {
            "kind": "learned",
            "blueprint": self.learned.blueprint.to_json(),
            "origin": self.learned.origin.to_json(),
        }
        if self.needs is None:
            return header
        classes = [[name, n] for name, n in self.classes.items()]
        return header | {"kind": "adapted", "classes": classes, "needs": asdict(self.needs)}

    def tensors(self) -> Params:
        """Return the tensors of state and memory."""
        return flatten_state(self.learned.state) | named("memory", self.memory)


def read_model(folder: Path, *, allowed_packages: Sequence[str]) -> KeptModel:
    """Read a model's folder; see ``load_model``."""
    header = read_header(folder)
    try:
        blueprint = Blueprint.from_json(header["blueprint"], allowed_packages=allowed_packages)
        origin = Provenance.from_json(header["origin"])
        is_adapted, learner = _is_adapted(header["kind"]), blueprint.build(allowed_packages)
        classes = _classes_of(header["classes"]) if is_adapted else {}
        needs = _needs(header["needs"]) if is_adapted else None
        if needs is not None:
            _check_fit(blueprint, classes, needs)
    except MetafleetError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} is damaged ({error!r:.120}); make the model again") from error
    tensors = read_tensors(folder, header, expected_layout(learner))
    state = unflatten_state(tensors)
    learned = Learned(blueprint, learner, state, origin, tuple(allowed_packages))
    return KeptModel(learned, parted(tensors, "memory"), classes, needs)


def _is_adapted(kind: object) -> bool:
    if kind not in ("adapted", "learned"):
        raise ValueError(f"kind {kind!r:.40}")
    return kind == "adapted"


def _check_fit(blueprint: Blueprint, classes: Mapping[str, int], needs: Needs) -> None:
    """Hold what was adapted against what it was built from; raises ValueError."""
    problem = blueprint.problem
    if bool(classes) == problem.is_regression:
        raise ValueError(f"{len(classes)} classes, target_dim={problem.target_dim}")
    unknown = sorted(set(needs.known) - problem.modalities.keys())
    if unknown or not needs.known:
        raise ValueError(f"needs {list(needs.known)} of {list(problem.modalities)}")


def _needs(values: Mapping[str, Any]) -> Needs:
    parts = [values["required"], values["optional"]]
    if not all(isinstance(part, list) for part in parts):
        raise ValueError(f"needs {parts!r:.60}; expected lists of names")
    required, optional = (tuple(str(name) for name in part) for part in parts)
    return Needs(required, optional)


def _classes_of(values: Any) -> dict[str, int]:
    """Read what ``save`` wrote of the classes; raises ValueError or TypeError."""
    classes = {str(name): int(n) for name, n in values}
    if len(classes) != len(values) or len(classes) == 1:
        raise ValueError(f"{len(values)} classes")
    return classes

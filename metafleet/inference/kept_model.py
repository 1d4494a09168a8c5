"""The content of a model's folder, in a form common to all models."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from metafleet.calibration.calibration import Calibration
from metafleet.data.importing.class_names import is_printable
from metafleet.errors import MetafleetError, ModelError
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.kept_encoders import use_kept_files
from metafleet.inference.model_folder import read_header, read_tensors
from metafleet.inference.model_record import ModelRecord
from metafleet.inference.provenance import Provenance
from metafleet.inference.requirements import Needs
from metafleet.inference.state_layout import expected_layout
from metafleet.learners.base import Learner
from metafleet.options import is_finite_number
from metafleet.params import MetaState, Params, flatten_state, named, parted, unflatten_state

_MOST_EXAMPLES: Final = 1 << 40
"""Maximum examples of a class in a header; a larger number means damage and would overflow."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The result of a run: learned state, blueprint and learner.

    Attributes:
        blueprint: specification of the learner.
        learner: the learner built from the blueprint.
        state: the learned state.
        origin: provenance of the state.
        allowed_packages: user packages from which the learner may be built.
        record: record of the model's training and evaluation.
        digest: digest of the folder from which the model was read; "" if the model was not read
            from a folder.
        calibration: calibration of the model's probabilities; None if it was not calibrated.
    """

    blueprint: Blueprint
    learner: Learner
    state: MetaState
    origin: Provenance
    allowed_packages: tuple[str, ...] = ()
    record: ModelRecord = field(default_factory=ModelRecord)
    digest: str = ""
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class KeptModel:
    """The data of a model, without its methods.

    Attributes:
        learned: the result of the run.
        memory, classes, needs: as in ``AdaptedModel``; ``needs`` is None if the model has not been
            adapted.
        support: the support set as ``keep_support`` returned it; {} if the model does not keep it.
        difficulty: as in ``AdaptedModel``.
    """

    learned: Learned
    memory: Params = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    needs: Needs | None = None
    support: Params = field(default_factory=dict)
    difficulty: float | None = None

    def header(self) -> dict[str, Any]:
        """Return everything except the tensors as JSON values."""
        header: dict[str, Any] = {
            "kind": "learned",
            "blueprint": self.learned.blueprint.to_json(),
            "origin": self.learned.origin.to_json(),
            "record": self.learned.record.to_json(),
        }
        if self.learned.calibration is not None:
            header["calibration"] = self.learned.calibration.to_json()
        if self.needs is None:
            return header
        classes = [[name, n] for name, n in self.classes.items()]
        if self.difficulty is not None:
            header["difficulty"] = self.difficulty
        return header | {"kind": "adapted", "classes": classes, "needs": asdict(self.needs)}

    def tensors(self) -> Params:
        """Return the tensors of state, memory and support set."""
        kept = named("memory", self.memory) | named("support", self.support)
        return flatten_state(self.learned.state) | kept


def read_model(
    folder: Path, *, allowed_packages: Sequence[str], encoders: Mapping[str, str] | None = None
) -> KeptModel:
    """Read a model's folder; see ``load_model``."""
    header = read_header(folder)
    try:
        use_kept_files(folder, header)
        blueprint = Blueprint.from_json(header["blueprint"], allowed_packages=allowed_packages)
        blueprint = blueprint.with_encoders(encoders or {})
        origin = Provenance.from_json(header["origin"])
        record = ModelRecord.from_json(header.get("record", {}))  # older models have none
        calibration = _calibration_of(header)
        is_adapted, learner = _is_adapted(header["kind"]), blueprint.build(allowed_packages)
        classes = _classes_of(header["classes"]) if is_adapted else {}
        needs = _needs(header["needs"]) if is_adapted else None
        difficulty = _difficulty_of(header) if is_adapted else None
        if needs is not None:
            _check_fit(blueprint, classes, needs)
    except MetafleetError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} is damaged ({error!r:.120}); make the model again") from error
    tensors = read_tensors(folder, header, expected_layout(learner))
    state = unflatten_state(tensors)
    learned = Learned(
        blueprint,
        learner,
        state,
        origin,
        tuple(allowed_packages),
        record,
        digest=header["digest"],
        calibration=calibration,
    )
    memory, support = (parted(tensors, group) for group in ("memory", "support"))
    return KeptModel(learned, memory, classes, needs, support, difficulty)


def _calibration_of(header: Mapping[str, Any]) -> Calibration | None:
    return Calibration.from_json(header["calibration"]) if "calibration" in header else None


def _difficulty_of(header: Mapping[str, Any]) -> float | None:
    found = header.get("difficulty")  # older models have none
    if found is None:
        return None
    if not is_finite_number(found):
        raise ValueError(f"difficulty {found!r:.40}")
    return float(found)


def _is_adapted(kind: object) -> bool:
    if kind not in ("adapted", "learned"):
        raise ValueError(f"kind {kind!r:.40}")
    return kind == "adapted"


def _check_fit(blueprint: Blueprint, classes: Mapping[str, int], needs: Needs) -> None:
    """Check that classes and needs fit the blueprint; raise ValueError if not."""
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
    """Read the classes that ``save`` wrote; raise ValueError or TypeError if they are damaged."""
    classes = {str(name): int(n) for name, n in values}
    if len(classes) != len(values) or len(classes) == 1:
        raise ValueError(f"{len(values)} classes")
    for name, n in classes.items():
        if not is_printable(name):  # it could control the terminal
            raise ValueError(f"class {name!r:.60} is not printable")
        if not 0 <= n <= _MOST_EXAMPLES:  # 0: a class that is known by its name alone
            raise ValueError(f"class {name!r:.60} of {n!s:.20} examples")
    return classes

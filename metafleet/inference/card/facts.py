"""Facts that appear in more than one place on a card."""

from collections.abc import Mapping

from metafleet.episode import CLASS_TEXT
from metafleet.inference.card.text import plain
from metafleet.inference.kept_model import KeptModel
from metafleet.inference.model_record import Result

_CLASSIFIES = {
    "image": "image-classification",
    "audio": "audio-classification",
    "video": "video-classification",
    "text": "text-classification",
    "table": "tabular-classification",
}
"""Kind of data -> the Hub's name of the classification task for it."""
_SIZES = ("n_way", "k_shot", "n_query")


def hub_task(model: KeptModel) -> str | None:
    """Return the Hub's name of the task; None if no task of the Hub fits."""
    if model.learned.blueprint.problem.is_regression:
        return "tabular-regression"
    kinds = set(kinds_of(model).values())
    return _CLASSIFIES.get(next(iter(kinds))) if len(kinds) == 1 else None


def kinds_of(model: KeptModel) -> Mapping[str, str]:
    """Return modality -> description, for all modalities that the model reads."""
    blueprint = model.learned.blueprint
    names = blueprint.problem.modalities if model.needs is None else model.needs.known
    found = {}
    for name in names:
        if name != CLASS_TEXT:
            spec = blueprint.inputs.get(name)
            found[name] = spec.kind if spec else blueprint.problem.kinds.get(name, name)
    return found


def own_results(model: KeptModel) -> list[Result]:
    """Return the results of the model itself, without those of models it is compared with."""
    return [result for result in model.learned.record.results if result.is_trained]


def episodes_of(result: Result) -> str:
    """Describe the episodes of a result, in Markdown."""
    ways = f"{result.n_way}-way " if result.n_way else ""
    rest = [it for it in result.otherwise if it.split("=")[0].split(".")[-1] not in _SIZES]
    return plain(", ".join([f"{ways}{result.k_shot}-shot, {result.n_query} query", *rest]))


def is_of_encoders(model: KeptModel) -> bool:
    """Return whether the model is made of pretrained encoders and a head, without any training."""
    learned = model.learned
    is_encoded = any(spec.is_encoded for spec in learned.blueprint.inputs.values())
    is_untrained = not learned.state.params or learned.blueprint.class_text is not None
    return is_encoded and not learned.origin.run and is_untrained


def without_folder(encoder: str) -> str:
    """Return an encoder's name without the folder of its weights."""
    source, colon, place = encoder.partition(":")
    return f"{source}{colon}{place.rpartition('/')[2]}" if place.startswith(("/", "~")) else encoder

"""The sections of a model card: data, training, results, limits and licences."""

from collections.abc import Iterator

from metafleet.encoders.registry import get_encoder
from metafleet.errors import MetafleetError
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.card.facts import episodes_of, is_of_encoders, own_results, without_folder
from metafleet.inference.card.text import code, plain, table
from metafleet.inference.kept_model import KeptModel
from metafleet.inference.model_record import Figure, Result

_MOST_CLASSES = 100
_JUDGED = {
    "trained": "this model",
    "initialisation": "its network without meta-training",
    "nearest_prototype": "nearest prototype of raw inputs",
}


def adapted_to(model: KeptModel) -> str:
    """Describe from what and to which classes the model was adapted; "" if it was not adapted."""
    if model.needs is None:
        return ""
    origin, base = model.learned.origin, model.learned.record.adapted_from
    run = f"run {code(origin.run)} ({plain(origin.name)})"
    source = run if origin.run else "a network that no run trained"
    if base:
        source = f"the model with digest {code(base)}, which is from {source}"
    if not model.classes:
        return f"One function, from a table of points. Adapted from {source}."
    shown = list(model.classes.items())[:_MOST_CLASSES]
    left_out = len(model.classes) - len(shown)
    more = f"\n\n`model.json` has {left_out} more." if left_out else ""
    rows = [(plain(name), str(n)) for name, n in shown]
    listed = f"{table((_noun(model), 'examples'), rows)}{more}"
    return f"Adapted from {source}.{_named_by(model)}\n\n{listed}"


def trained_on(model: KeptModel) -> str:
    """Describe the data and episodes on which the state was learned."""
    origin, problem = model.learned.origin, model.learned.blueprint.problem
    if not origin.run:
        if is_of_encoders(model) and model.learned.blueprint.class_text is not None:
            return "Nothing was trained: the encoders of items and of class names are frozen."
        if is_of_encoders(model):
            return "Nothing was trained: the encoder is frozen, and a head is fitted to examples."
        return "Nothing is recorded of its training."
    rows = [
        (code(split), str(shape.n_way or "-"), str(shape.k_shot), str(shape.n_query))
        for split, shape in problem.episodes.items()
    ]
    apart = "" if problem.is_regression else " Each split has classes of its own."
    return (
        f"Data set {code(origin.data)} (digest {code(origin.data_digest)}), {_steps(model)}."
        f"{apart} Episodes:\n\n{table(('split', 'n_way', 'k_shot', 'n_query'), rows)}"
    )


def judged_on(model: KeptModel) -> str:
    """List all known results with their confidence intervals."""
    results = model.learned.record.results
    if not results:
        return "No figures are recorded. Judge the model on data of your own before you rely on it."
    names = list(dict.fromkeys(figure.name for it in results for figure in it.figures))
    rows = [_row(result, names) for result in results]
    headings = ("judged", "split", "episodes", "how many", "batch norm", *map(plain, names))
    of_base = "" if model.needs is None else " They are of the run's classes, not of those above."
    return f"Means over episodes, with 95 % intervals.{of_base}\n\n{table(headings, rows)}"


def limits(model: KeptModel) -> str:
    """List what the model was not evaluated on, and what it cannot do."""
    return "\n".join(f"- {limit}" for limit in _limits(model))


def _named_by(model: KeptModel) -> str:
    """Return how the names of classes are read, as a sentence; "" if they are not."""
    names = model.learned.blueprint.class_text
    if names is None:
        return ""
    encoder, prompts = names.tower.options["encoder"], map(plain, names.prompts)
    shown = "; ".join(prompts)
    return f" {plain(without_folder(str(encoder)))} encodes the names of the classes as: {shown}"


def _noun(model: KeptModel) -> str:
    return "label" if model.learned.blueprint.problem.is_multi_label else "class"


def licences(model: KeptModel) -> str:
    """List the licences of data and weights."""
    licence = model.learned.record.data_licence
    rows = [
        ("training data", plain(licence) if licence else "not recorded"),
        ("pretrained encoder", _encoder_licences(model.learned.blueprint)),
        ("this model", "not chosen; its maker sets `license` at the top of this card"),
    ]
    return table(("of", "licence"), rows)


def _row(result: Result, names: list[str]) -> tuple[str, ...]:
    figures = {figure.name: figure for figure in result.figures}
    return (
        _JUDGED.get(result.judged, plain(result.judged)),
        code(result.split),
        episodes_of(result),
        str(result.episodes),
        plain(result.batch_norm),
        *(_figure(figures.get(name)) for name in names),
    )


def _steps(model: KeptModel) -> str:
    learned = model.learned
    in_all = learned.record.config.get("outer", {}).get("steps")
    return f"outer step {learned.origin.step}" + (f" of {plain(str(in_all))}" if in_all else "")


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if figure.is_share:
        return f"{100 * figure.value:.2f} ± {100 * figure.ci95:.2f} %"
    return f"{figure.value:.4f} ± {figure.ci95:.4f}"


def _limits(model: KeptModel) -> Iterator[str]:
    learned = model.learned
    results = own_results(model)
    if results:
        shapes = "; ".join(dict.fromkeys(episodes_of(result) for result in results))
        yield f"It was judged on these episodes alone: {shapes}."
        if any(result.split == "meta_val" for result in results):
            yield "`meta_val` chose the state, so figures of it are likely higher than others."
        judged_with = {result.batch_norm for result in results if result.batch_norm}
        if judged_with - {learned.learner.batch_norm}:
            yield (
                f"It was judged with batch norm {plain(', '.join(sorted(judged_with)))}; this "
                f"model has {learned.learner.batch_norm}."
            )
    if learned.blueprint.problem.is_multi_label:
        yield "It knows no other labels than those that it was adapted to."
    elif not learned.blueprint.problem.is_regression:
        yield from _doubts(model)
    if learned.learner.batch_norm == "transductive":
        yield "What it predicts for an item depends on the items predicted with it."
    yield "It was not judged on data unlike those of training: another camera, speaker or topic."


def _doubts(model: KeptModel) -> Iterator[str]:
    """Describe how reliable the model's probabilities and its detection of unknown items are."""
    calibration, unless = model.learned.calibration, ""
    if calibration is None:
        yield "Its probabilities are not calibrated."
    else:
        shapes = ", ".join(map(str, calibration.shapes))
        yield (
            f"Its probabilities and label sets are calibrated on {code(calibration.split)} "
            f"episodes ({shapes}); for other ways, shots or kinds of classes they are less certain."
        )
        if any(shape.unknown for shape in calibration.shapes):
            unless = ", unless `predict --unknown` is asked"
    yield f"It gives an item that belongs to none of its classes one of them all the same{unless}."
    if model.support:
        yield "Its folder holds the examples that it has adapted to."


def _encoder_licences(blueprint: Blueprint) -> str:
    """Name the pretrained encoders whose features the model reads, with their licences."""
    used = [
        f"{plain(name)}: {plain(without_folder(encoder))} ({plain(_licence(encoder, spec.kind))})"
        for name, spec in blueprint.inputs.items()
        if (encoder := str(spec.options.get("encoder", ""))) not in ("", "bytes")
    ]
    return "; ".join(used) or "none"


def _licence(encoder: str, kind: str) -> str:
    try:
        found = get_encoder(encoder, kind=kind).licence
    except MetafleetError:  # its weights are not on this machine
        found = ""
    return found or "licence not recorded"

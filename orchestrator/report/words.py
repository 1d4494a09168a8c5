"""The set-up, the protocol and the work of a run, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.db.records import RunStatus
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.records.run_view import RunView
from metafleet.orchestrator.reporting.figures import counted
from metafleet.splits import META_TEST, META_TRAIN, META_VAL

_SIZE: Final = ("n_way", "k_shot", "n_query")
_PLAIN: Final[tuple[Any, ...]] = (None, [], {}, False, "even", 0, 0.0, "")
_SPLIT_NAMES: Final = {
    META_TRAIN: "meta-training",
    META_VAL: "meta-validation",
    META_TEST: "meta-test",
}
_SURVIVED: Final = {
    AttemptOutcome.FAILED: "failed at their worker",
    AttemptOutcome.LOST: "were lost with a worker, a message or a Redis server",
    AttemptOutcome.REFUSED: "were refused by their worker",
    AttemptOutcome.REJECTED: "gave results that did not match the request",
    AttemptOutcome.MISSING: "lacked tensors",
    AttemptOutcome.LATE: "gave results too late",
    AttemptOutcome.CANCELLED: "were stopped because another attempt was faster",
    AttemptOutcome.UNNEEDED: "were no longer needed when a worker received them",
}
DISCARDED: Final = tuple(_SURVIVED)


def set_up(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (heading, sentences) that describe the set-up of a run."""
    outer = config.get("outer", {})
    rows = [
        ("Data", _described(config.get("data", {}))),
        ("Episodes", _episodes(config)),
        ("Network", _described(config.get("model", {}))),
        ("Learner", _described(config.get("learner", {}))),
        ("Outer loop", _outer(outer)),
    ]
    return [(heading, text) for heading, text in rows if text]


def protocol(config: Mapping[str, Any], baselines: Sequence[str]) -> list[str]:
    """Return sentences about validation and test.

    Args:
        config: the configuration.
        baselines: the baselines that have results.
    """
    validation, test = config.get("validation", {}), config.get("test", {})
    found = []
    every = validation.get("every", 0)
    if every:
        found.append(
            f"Every {counted(every, 'outer step')}, the state is evaluated on "
            f"{counted(validation.get('episodes', 0), 'episode')} of meta-validation. The state of "
            "the best validation is the trained state."
        )
    else:
        found.append(
            "There is no meta-validation. The state of the last step is the trained state."
        )
    if test.get("episodes"):
        found.append(
            f"The trained state is tested on {counted(test['episodes'], 'episode')} of meta-test."
        )
        if baselines:
            found.append(f"The same episodes are given to baselines: {' and '.join(baselines)}.")
    else:
        found.append("The runs have no meta-test of their own.")
    found.append(
        "An episode depends only on the seed of the run, the split and the number of the episode. "
        "Runs of the same seed are therefore judged on the same episodes."
    )
    return found


def status_notes(views: Sequence[RunView]) -> list[str]:
    """Return a sentence for each run that did not finish."""
    return [
        f"Run {view.run.uid} (seed {view.run.seed}) is {view.run.status.value} after "
        f"{view.run.steps_done} of {counted(view.run.n_steps, 'outer step')}"
        + (f": {view.run.error}" if view.run.error else "")
        + "."
        for view in views
        if view.run.status is not RunStatus.FINISHED
    ]


def survived(views: Sequence[RunView]) -> list[str]:
    """Return sentences on the faults that runs survived, and on the work that did not count."""
    totals: dict[str, int] = {}
    for view in views:
        for total in view.attempt_totals:
            totals[total.outcome] = totals.get(total.outcome, 0) + total.n
    found = [
        f"{counted(totals[outcome], 'attempt')} {meaning}."
        for outcome, meaning in _SURVIVED.items()
        if totals.get(outcome)
    ]
    deaths = sum(view.run.deaths for view in views)
    if deaths:
        found.append(f"The process of a run died {counted(deaths, 'time')}, and the run went on.")
    degraded = sum(step.degraded for view in views for step in view.steps)
    if degraded:
        missing = sum(step.missing_episodes for view in views for step in view.steps)
        found.append(
            f"{counted(degraded, 'outer step')} did without {counted(missing, 'episode')}."
        )
    return found


def _described(section: Mapping[str, Any]) -> str:
    """Return the name of a method with the options that are set."""
    name = str(section.get("name", "?"))
    options = [
        f"{key} = {shown(value)}"
        for key, value in section.items()
        if key != "name" and value not in (None, [], {}, "")
    ]
    return f"{name} ({', '.join(options)})" if options else name


def _episodes(config: Mapping[str, Any]) -> str:
    section = config.get("episodes", {})
    found: dict[str, list[str]] = {}
    for split, name in _SPLIT_NAMES.items():
        own = {k: v for k, v in (section.get(split) or {}).items() if v is not None}
        shape = {k: v for k, v in section.items() if k not in _SPLIT_NAMES} | own
        found.setdefault(_shape(shape), []).append(name)
    if len(found) == 1:
        return next(iter(found)) + "."
    return "; ".join(f"{' and '.join(names)}: {shape}" for shape, names in found.items()) + "."


def _shape(shape: Mapping[str, Any]) -> str:
    n_way = shape.get("n_way", 0)
    size = f"{n_way}-way {shape.get('k_shot')}-shot" if n_way else f"{shape.get('k_shot')} points"
    queries = f"{shape.get('n_query')} query examples" + (" of each class" if n_way else "")
    special = [
        f"{key} = {shown(value)}"
        for key, value in shape.items()
        if key not in (*_SIZE, "n_unknown") and value not in _PLAIN
    ]
    return ", ".join([size, queries, *special])


def _outer(outer: Mapping[str, Any]) -> str:
    extra = [
        f"{key} = {shown(outer[key])}"
        for key in ("momentum", "weight_decay", "clip_norm", "schedule", "warmup_steps")
        if outer.get(key) not in _PLAIN
    ]
    return ", ".join(
        [
            f"{counted(outer.get('steps', 0), 'step')} of "
            f"{counted(outer.get('meta_batch_size', 0), 'episode')}",
            str(outer.get("optimiser", "?")),
            f"learning rate {outer.get('lr', 0):g}",
            *extra,
        ]
    )

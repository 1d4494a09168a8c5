"""Counts which classes are predicted, by computing episodes of an evaluation again."""

from collections import Counter

from metafleet.data.summary import Progress, no_progress
from metafleet.orchestrator.redraw.confusion import Confusion
from metafleet.orchestrator.redraw.redraw import Redraw


def count_confusion(
    redraw: Redraw, progress: Progress = no_progress, *, numbers: range | None = None
) -> Confusion | None:
    """Compute episodes of an evaluation again, and count which classes were predicted.

    By default, these are all episodes; ``numbers`` chooses others. The result is None in
    regression, if items have several labels, and if examples are computed.
    """
    counts, met = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    n_differing, record = 0, redraw.record
    chosen = range(len(record.losses)) if numbers is None else numbers
    for done, index in enumerate(chosen, start=1):
        rows = redraw.rows(index)
        if rows is None or record.accuracies is None:
            return None
        episode, outputs, accuracy, _ = redraw.answer(index)
        if episode.query.targets.dim() != 1:
            return None
        names = [f"{rows.part}: {name}" if rows.part else name for name in rows.classes]
        predicted = outputs.argmax(dim=1).tolist()
        for target, guess in zip(episode.query.targets.tolist(), predicted, strict=True):
            counts[names[target], names[guess]] += 1
            met.update((names[target], name) for name in names)
        n_differing += accuracy != record.accuracies[index]
        progress("episodes", done, len(chosen))
    return Confusion(dict(counts), dict(met), len(chosen), n_differing)

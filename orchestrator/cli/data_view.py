"""Output of the data commands: summaries, and a progress bar during preparation."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from metafleet.data.summary import ENCODING, DataSummary, Progress
from metafleet.orchestrator.reporting.output import notify

_LINE_EVERY_S: Final = 10.0


def summary_json(summary: DataSummary) -> dict[str, Any]:
    """Return a summary as JSON values."""
    fields = {f.name: getattr(summary, f.name) for f in dataclasses.fields(summary)}
    for part in ("splits", "modalities"):
        fields[part] = {name: dataclasses.asdict(value) for name, value in fields[part].items()}
    fields["facts"] = dict(summary.facts)
    fields["location"] = None if summary.location is None else str(summary.location)
    return fields


def describe_summary(summary: DataSummary) -> Iterator[str]:
    """Yield the lines of a summary as readable text."""
    yield f"name        {summary.name}"
    yield f"digest      {summary.digest}"
    if summary.split_sha256:
        yield f"split       {summary.split_sha256}"
    yield f"location    {summary.location or 'nothing is stored'}"
    yield f"licence     {summary.licence}"
    yield f"origin      {summary.origin}"
    for modality, about in summary.modalities.items():
        shape = "x".join(map(str, about.shape))
        items = f", {about.items:,} items have it" if about.items else ""
        yield f"modality    {modality} {shape}{items}"
    for split, holds in summary.splits.items():
        each = f"{holds.fewest_items} to {holds.most_items}"
        if holds.fewest_items == holds.most_items:
            each = str(holds.most_items)
        one, many, items = summary.nouns
        yield f"{split:<11} {holds.classes:,} {many}, {holds.items:,} {items}, {each} a {one}"
        gaps = {m: holds.items - n for m, n in holds.present.items() if n < holds.items}
        if gaps:
            yield f"{'':<11} without " + ", ".join(f"{m}: {n:,}" for m, n in gaps.items())
        groups = [f"{group} {n}" for group, n in holds.groups.items() if group]
        if groups:
            yield f"{'':<11} {', '.join(groups)}"
    for fact, value in summary.facts.items():
        yield f"fact        {fact}: {value}"


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show progress on standard error: a bar on a terminal, elsewhere a line every few seconds."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and most commands do not need it
    from rich.progress import Progress as Bar  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines().show
        return
    with Bar(console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total or None)
            bar.update(tasks[stage], completed=done, total=total or None)

        yield show


class _Lines:
    """Writes progress as lines, for output that is not a terminal.

    The first line is written when encoding begins, because the first batch may take long. Further
    lines follow at intervals. If lines were written during a stage, one more line is written
    at its end.
    """

    def __init__(self) -> None:
        self._last_line_at, self._shown = time.monotonic(), set[str]()

    def show(self, stage: str, done: int, total: int) -> None:
        is_late = time.monotonic() - self._last_line_at >= _LINE_EVERY_S
        if done < total and (is_late or (stage == ENCODING and stage not in self._shown)):
            self._last_line_at = time.monotonic()
            self._shown.add(stage)
        elif done < total or stage not in self._shown:
            return
        else:
            self._shown.remove(stage)
        notify(f"{stage}: {done:,} of {total:,}")

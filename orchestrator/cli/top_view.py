"""What `metafleet top` shows: tables for a terminal, plain lines for a pipe."""

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from metafleet.contracts.presence import WorkerInfo
from metafleet.orchestrator.cli.run_words import STATUS_STYLES
from metafleet.orchestrator.cli.tables import make_table
from metafleet.orchestrator.monitoring.fleet_reading import FleetReading
from metafleet.orchestrator.monitoring.monitor import Snapshot
from metafleet.orchestrator.monitoring.runs_reading import OpenRun
from metafleet.orchestrator.records.states import State
from metafleet.orchestrator.reporting.figures import counted, duration

_WIDE = 120
_NARROW = 72
"""Below this width, lines take the place of tables."""
_FRAME_LINES = 14
"""Lines around the rows of both tables: headings, rules, the lines above."""
_IDLE_S = 3.0
_STYLES = {State.RETRYING: "yellow", State.PAUSED: "yellow", State.FAILED: "red"}


def screen(found: Snapshot, *, at: str, width: int, height: int) -> RenderableType:
    """Return what fits on a terminal of ``width`` columns and ``height`` lines.

    Args:
        found: the state of fleet and runs.
        at: the time to show.
        width: columns of the terminal.
        height: lines of the terminal.
    """
    is_wide, room = width >= _WIDE, max(2, height - _FRAME_LINES)
    shown: list[RenderableType] = [Text(f"metafleet top  {at}", style="bold")]
    shown += [Text(line, style=_style_of(line), overflow="fold") for line in summary(found)]
    if width < _NARROW:
        return Group(*shown, *map(Text, lines(found)))
    runs = found.runs.open_runs if found.runs is not None else ()
    workers = found.fleet.workers if found.fleet is not None else ()
    n_runs = min(len(runs), max(room // 2, room - len(workers)))
    if runs:
        shown += [_runs(runs[:n_runs], is_wide=is_wide), *_more(len(runs) - n_runs)]
    n_workers = min(len(workers), max(1, room - n_runs))
    if workers:
        shown += [
            _workers(_sorted(workers)[:n_workers], is_wide=is_wide),
            *_more(len(workers) - n_workers),
        ]
    return Group(*shown)


def summary(found: Snapshot) -> Iterator[str]:
    """Yield a line about the fleet and a line about the runs, or why they are unknown."""
    if found.fleet is None:
        yield f"no fleet: {found.fleet_problem}"
    else:
        yield f"fleet: {_describe(found.fleet)}"
    if found.runs is None:
        yield f"no runs: {found.runs_problem}"
        return
    by_status = ", ".join(f"{n} {status}" for status, n in sorted(found.runs.by_status.items()))
    rate = sum(
        run.jobs_per_s for run in found.runs.open_runs if run.state.state is not State.QUEUED
    )
    yield f"runs: {by_status or 'none yet'}; {rate:.1f} jobs/s"


def lines(found: Snapshot) -> Iterator[str]:
    """Yield a line about each open run, and one about each worker."""
    for each in found.runs.open_runs if found.runs is not None else ():
        yield _run_line(each)
    for worker in found.fleet.workers if found.fleet is not None else ():
        yield f"worker {worker.name} {worker.device}, {_doing(worker)}"


def _run_line(each: OpenRun) -> str:
    parts = [f"run {each.run.id} {each.run.name} {each.state.state}", f"step {_steps(each)}"]
    if each.step_s is not None:
        parts += [
            f"{duration(each.step_s)} a step",
            f"{each.episodes_per_s:.1f} episodes/s",
            f"loss {each.steps[-1].loss:.4f}",
        ]
    if each.straggler is not None:
        parts.append(f"slowest {_slowest(each, is_wide=True)}")
    if each.state.reason:
        parts.append(each.state.reason)
    return ", ".join(parts)


def _describe(fleet: FleetReading) -> str:
    devices = Counter(worker.device.split(":")[0] for worker in fleet.alive)
    processes = sum(worker.processes for worker in fleet.alive)
    kinds = ", ".join(f"{n} {device}" for device, n in sorted(devices.items()))
    alive = counted(len(fleet.alive), "worker") + (f" ({kinds})" if kinds else "")
    waiting = f"{sum(fleet.queues.values())} waiting in queues"
    demand = f"{counted(fleet.open_shards, 'open shard')}, {waiting}"
    return f"{alive}, jobs at a time: {processes}; {demand}"


def _style_of(line: str) -> str:
    return "red" if line.startswith("no ") else ""


def _runs(runs: Iterable[OpenRun], *, is_wide: bool) -> Table:
    right = ("run", "step", "s/step", "ep/s", "loss", "workers")
    headings = ["run", "name", "state", "step", "s/step", "ep/s", "loss"]
    headings += ["workers", "slowest job"] if is_wide else ["slowest"]
    table = make_table(*headings, right=right)
    for each in runs:
        state = each.state.state
        style = _STYLES.get(state) or STATUS_STYLES.get(each.run.status) or "default"
        cells = [str(each.run.id), escape(each.run.name), f"[{style}]{state}[/]", _steps(each)]
        slowest = escape(_slowest(each, is_wide=is_wide))
        table.add_row(*cells, *_figures(each)[: 4 if is_wide else 3], slowest)
    return _cutting(table, "name")


def _figures(each: OpenRun) -> tuple[str, ...]:
    if not each.steps:
        return ("-",) * 4
    last = each.steps[-1]
    speed = f"{each.step_s:.3g}", f"{each.episodes_per_s:.4g}"
    return *speed, f"{last.loss:.4f}", str(last.workers_alive)


def _steps(each: OpenRun) -> str:
    return f"{each.run.steps_done}/{each.run.n_steps}"


def _slowest(each: OpenRun, *, is_wide: bool) -> str:
    """Describe the slowest job of the last step, such as "1.50 s shard 2 (median 0.50 s)"."""
    found = each.straggler
    if found is None:
        return "-"
    if not is_wide:
        return f"{found.took_s:.2f} s"
    where = f"shard {found.shard} on {found.worker}"
    return f"{found.took_s:.2f} s, {where} (median {found.median_s:.2f} s)"


def _workers(workers: Iterable[WorkerInfo], *, is_wide: bool) -> Table:
    headings = ["worker", "device", "jobs at a time", "doing", "last seen"]
    headings += ["pid", "version", "queues"] if is_wide else []
    table = make_table(*headings, right=("jobs at a time", "pid"))
    for worker in workers:
        more = [str(worker.pid), worker.version, ", ".join(worker.queues)] if is_wide else []
        table.add_row(
            escape(worker.name),
            escape(worker.device),
            str(worker.processes),
            _doing(worker),
            f"{worker.last_seen_s:.0f} s ago",
            *map(escape, more),
            style=None if worker.is_alive else "dim",
        )
    return _cutting(table, "worker")


def _cutting(table: Table, heading: str) -> Table:
    """Let only the column with this heading be cut on a narrow terminal."""
    for column in table.columns:
        column.overflow = "ellipsis"
        if column.header != heading:
            cells = (Text.from_markup(str(cell)).cell_len for cell in column.cells)
            column.min_width = max(len(str(column.header)), *cells)
        else:
            column.no_wrap = False  # rich narrows such columns first
    table.padding = (0, 2, 0, 0)
    table.pad_edge = False
    return table


def _doing(worker: WorkerInfo) -> str:
    if not worker.is_alive:
        return "silent"
    return "computes" if worker.idle_s < _IDLE_S else f"idle for {duration(worker.idle_s)}"


def _sorted(workers: tuple[WorkerInfo, ...]) -> list[WorkerInfo]:
    return sorted(workers, key=lambda worker: (not worker.is_alive, worker.name))


def _more(n: int) -> list[Text]:
    return [Text(f"  ... {n} more", style="dim")] if n > 0 else []

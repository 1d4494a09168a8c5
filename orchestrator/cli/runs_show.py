"""`metafleet runs show`: everything about a run."""

from dataclasses import fields

import click
from rich.markup import escape
from rich.table import Table

from metafleet.data.scoring import score_name
from metafleet.db.records import EvaluationRecord, JobTotals, RunRecord, RunStatus
from metafleet.db.repositories.runs import RunRepository
from metafleet.encoders.identity import describe_identity
from metafleet.orchestrator.autotune.calibration import Calibration
from metafleet.orchestrator.cli.arguments import RunName
from metafleet.orchestrator.cli.context import echo_json, load_settings, open_records
from metafleet.orchestrator.cli.engine_view import engine_facts
from metafleet.orchestrator.cli.inner_view import (
    inner_summary,
    rates_summary,
    show_inner_curves,
    show_inner_rates,
)
from metafleet.orchestrator.cli.run_words import STATUS_STYLES, owner_of
from metafleet.orchestrator.cli.tables import make_facts, make_table, show_table
from metafleet.orchestrator.recording.left_rows import replay_left_rows
from metafleet.orchestrator.records.difference import Change
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.records.run_view import Changes, RunView
from metafleet.orchestrator.reporting.figures import (
    contender,
    counted,
    duration,
    percent,
    plus_minus,
    sparkline,
    speed,
)
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.process_name import has_died
from metafleet.orchestrator.runs.user_code import shown_version

_MOST_CHANGES = 20


def _owner_now(run: RunRecord) -> str | None:
    """Return the run's owner, and whether that process is known to have died."""
    if run.owner is None:
        return None
    is_dead = run.status is RunStatus.RUNNING and has_died(run.owner)
    waits = "; it died, and the next `metafleet serve` takes the run over" if is_dead else ""
    return f"{owner_of(run)}, epoch {run.epoch}{waits}"


def _queue(run: RunRecord) -> str | None:
    """Describe the run's place in the queue; None for an attached run."""
    if not run.detached:
        return None
    deaths = f", its process died {run.deaths} times" if run.deaths else ""
    return f"detached, priority {run.priority}{deaths}"


@click.command("show")
@click.argument("run", type=RunName())
@click.option(
    "--inner-steps",
    is_flag=True,
    help="Also list the results after each inner step, and the learned inner rates.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def show_run(run: str, *, inner_steps: bool, as_json: bool) -> None:
    """Show everything that is recorded about RUN. RUN is an id, a uid, a name or `latest`.

    \b
    metafleet runs show latest --json
    metafleet runs show latest --inner-steps
    """
    settings = load_settings()
    with open_records(settings, run) as database:
        with database.session(read_only=True) as session:
            record = RunRepository(session).get(run)
        replay_left_rows(database, settings, record, notify)
        with database.session(read_only=True) as session:
            view = RunView.read(session, record.uid)
    if as_json:
        echo_json(view.to_json())
        return
    show_table(_facts(view))
    engine = engine_facts(view.attempt_totals, view.steps)
    if engine is not None:
        show_table(engine)
    if view.evaluations:
        show_table(_evaluations(view))
    if view.workers:
        show_table(_workers(view))
    if inner_steps:
        show_inner_curves(view)
        show_inner_rates(view)


def _facts(view: RunView) -> Table:
    run = view.run
    table = make_facts()
    style = STATUS_STYLES.get(run.status, "default")
    calibration = Calibration.from_json(run.calibration) if run.calibration else None
    steps = counted(run.n_steps, "outer step")
    rows = {
        "run": f"{run.id}  {run.uid}  {run.name}",
        "status": f"[{style}]{run.status}[/], {run.steps_done} of {steps}",
        "error": run.error,
        "owner": _owner_now(run),
        "queue": _queue(run),
        "experiment": f"{run.experiment}, seed {run.seed}",
        "tags": escape(" ".join(view.tags)),
        "note": escape(run.note),
        "archived": "yes; `runs list --archived` lists it" if run.archived else None,
        "what": _what(run),
        **_changes(view.changes),
        "pipelining": _pipelining(run),
        "learning": _learning(view),
        "inner steps": inner_summary(view),
        "inner rates": rates_summary(view),
        "jobs": _jobs(view.jobs),
        "episodes": str(calibration) if calibration else None,
        "execution": calibration.reason if calibration and calibration.reason else _execution(run),
        "checkpoint": f"{view.checkpoint.path} (step {view.checkpoint.step})"
        if view.checkpoint
        else None,
        "sha256": run.checkpoint_sha256,
        "versions": ", ".join(
            [
                f"metafleet {run.code_version}",
                *(f"{n} {v}" for n, v in run.package_versions.items()),
            ]
        ),
        "own code": "\n".join(
            f"{package} {shown_version(version)}"
            for package, version in (run.user_code or {}).items()
        ),
        **_headed(run),
        "encoders": "\n".join(
            f"{modality}: {describe_identity(identity)}"
            for modality, identity in (run.encoders or {}).items()
        ),
        "started": f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC" if run.started_at else None,
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table


def _headed(run: RunRecord) -> dict[str, str]:
    """Return the fields of the record that define their own headings."""
    headed = [(f.metadata["heading"], f.name) for f in fields(run) if "heading" in f.metadata]
    return {heading: str(getattr(run, name) or "") for heading, name in headed}


def _what(run: RunRecord) -> str:
    episodes = run.config.get("episodes", {})
    parts = (
        run.config.get(section, {}).get("name", "?") for section in ("learner", "model", "data")
    )
    shown = {
        f"{key}.{inner}" if inner else key: each
        for key, value in episodes.items()
        for inner, each in (value.items() if isinstance(value, dict) else [("", value)])
        if each not in (None, [], False, "even", 0.0)
    }
    return f"{', '.join(parts)}; {' '.join(f'{key}={value}' for key, value in shown.items())}"


def _changes(changes: Changes | None) -> dict[str, str]:
    """Return how the configuration differs from the one it was made from; {} if there is none."""
    if changes is None:
        return {}
    lines = [_change(change) for change in changes.keys[:_MOST_CHANGES]]
    if len(changes.keys) > _MOST_CHANGES:
        lines.append(f"... {counted(len(changes.keys), 'key')} in all")
    return {"changes": escape("\n".join([f"from {changes.origin}:", *lines]))} if lines else {}


def _change(change: Change) -> str:
    def written(value: object) -> str:
        return "none" if value is None else f"{shown(value):.60}"

    return f"{change.key}: {written(change.before)} -> {written(change.after)}"


def _pipelining(run: RunRecord) -> str | None:
    """Return the age of the states at which gradients are taken; None if it is 0."""
    staleness = run.config.get("engine", {}).get("max_staleness", 0)
    if not staleness:
        return None
    return f"gradients of {counted(staleness, 'version')} ago (engine.max_staleness={staleness})"


def _execution(run: RunRecord) -> str | None:
    """Return how episodes are executed; None for the default."""
    engine = run.config.get("engine", {})
    name, precision = engine.get("execution", "autograd"), engine.get("precision", "float32")
    return None if (name, precision) == ("autograd", "float32") else f"{name}, {precision}"


def _learning(view: RunView) -> str | None:
    if not view.steps:
        return None
    last = view.steps[-1]
    name = score_name(view.run.config.get("data", {}))
    lines = [f"{'loss':<{len(name)}} {sparkline([s.loss for s in view.steps])} {last.loss:.4f}"]
    accuracies = [s.accuracy for s in view.steps if s.accuracy is not None]
    if accuracies:
        lines.append(f"{name} {sparkline(accuracies)} {percent(accuracies[-1])}")
    total_s = sum(step.step_s for step in view.steps)
    if total_s > 0:
        rate = speed(sum(step.episodes for step in view.steps) / total_s)
        lines.append(f"{duration(total_s)} of outer steps, {rate}")
    return "\n".join(lines)


def _jobs(jobs: JobTotals) -> str | None:
    if not jobs.jobs:
        return None
    return (
        f"{jobs.jobs} counted ({jobs.retried} of them a later attempt), "
        f"{duration(jobs.compute_s)} of computing, {jobs.payload_bytes / 1e6:.1f} MB of gradients"
    )


def _evaluations(view: RunView) -> Table:
    has_score = any(e.accuracy is not None for e in view.evaluations)
    accuracy = (f"{score_name(view.run.config.get('data', {}))} (95 %)",) if has_score else ()
    figures = ("step", "episodes", *accuracy, "loss (95 %)")
    table = make_table("judged", *figures, right=figures, fold="judged")
    groups: dict[str, list[EvaluationRecord]] = {}
    for e in view.evaluations:
        groups.setdefault(f"{e.split}, batch norm {e.batch_norm}", []).append(e)
    for heading, evaluations in groups.items():
        table.add_section()
        table.add_row(f"[bold]{heading}[/]")
        for e in evaluations:
            table.add_row(
                escape(contender(e.label)) + (" [green](best)[/]" if e.is_best else ""),
                str(e.step),
                str(e.episodes),
                *([percent(e.accuracy, e.accuracy_ci95)] if accuracy else []),
                plus_minus(e.loss, e.loss_ci95),
            )
    return table


def _workers(view: RunView) -> Table:
    figures = ("jobs", "episodes", "computing")
    table = make_table("worker", "device", *figures, right=figures)
    for worker in view.workers:
        table.add_row(
            worker.worker,
            worker.device,
            str(worker.jobs),
            str(worker.episodes),
            duration(worker.compute_s),
        )
    return table

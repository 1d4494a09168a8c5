"""Makes a report and writes its files."""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metafleet.contracts.settings import Settings
from metafleet.data.summary import Progress, no_progress
from metafleet.db.engine import Database
from metafleet.db.records import EpisodeResultsRecord, utc_now
from metafleet.db.repositories.episode_results import EpisodeResultsRepository
from metafleet.errors import ConfigError
from metafleet.files import drafting
from metafleet.orchestrator.report.bibliography import cite
from metafleet.orchestrator.report.charts import Chart, require_matplotlib
from metafleet.orchestrator.report.episodes import draw_group
from metafleet.orchestrator.report.facts import TRAINED, read_facts
from metafleet.orchestrator.report.figures import function_chart
from metafleet.orchestrator.report.page import Report
from metafleet.orchestrator.report.repeat import config_toml, rows_of


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report is to have.

    Attributes:
        compare: whether to compare each further group with the first one.
        n_worst: number of the worst episodes to draw for each group; 0 to draw none.
        with_confusion: whether to compute all episodes again, for confusion between classes.
    """

    compare: bool = False
    n_worst: int = 2
    with_confusion: bool = False


def make_report(
    database: Database,
    settings: Settings,
    names: Sequence[str],
    options: ReportOptions,
    *,
    notify: Callable[[str], None],
    progress: Progress = no_progress,
) -> Report:
    """Read the runs, and draw their worst and best episodes again.

    Raises:
        RunNotFoundError: there is no such run.
        ConfigError: matplotlib is not installed, or for the reasons of ``read_facts``.
    """
    require_matplotlib()
    with database.session(read_only=True) as session:
        facts = read_facts(session, names, compare=options.compare)
        repository = EpisodeResultsRepository(session)
        by_run: dict[str, EpisodeResultsRecord] = {}
        for group in facts.groups:
            for view in group.views:
                chosen = group.chosen(view)
                found = chosen and repository.find(
                    view.run.id, split=facts.split, label=TRAINED, step=chosen.step
                )
                if found:
                    by_run[view.run.uid] = found
    drawn = []
    if options.n_worst or options.with_confusion:
        drawn = [
            draw_group(
                settings,
                group,
                by_run,
                n_worst=options.n_worst,
                with_confusion=options.with_confusion,
                notify=notify,
                progress=progress,
            )
            for group in facts.groups
        ]
    configs = [group.views[0].run.config for group in facts.groups]
    records = [
        (group, [by_run[view.run.uid] for view in group.views if view.run.uid in by_run])
        for group in facts.groups
    ]
    baselines = {
        result.label
        for group in facts.groups
        for result in group.results
        if result.label not in (TRAINED, "initialisation")
    }
    citations = cite(configs, sorted(baselines), settings.allowed_packages)
    return Report(facts, records, drawn, citations, utc_now())


def write_report(report: Report, path: Path) -> int:
    """Write the page, and return its size in bytes. An existing file is replaced.

    Raises:
        ConfigError: the file cannot be written. An existing file is kept.
    """
    data = report.to_html().encode()
    _write(path, data, "--out")
    return len(data)


def write_figures(report: Report, folder: Path) -> list[Path]:
    """Write figures, tables, BibTeX and the files for repeating the runs; return the files.

    Figures are SVG, PDF and PNG. Tables are CSV and LaTeX. Existing files are replaced.

    Raises:
        ConfigError: a file cannot be written.
    """
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in [*report.charts(), *_functions(report)]:
            paths += chart.save(folder)
    except OSError as error:
        raise unwritable(folder, error, "--figures") from error
    texts: dict[str, str] = {}
    for table in report.tables():
        texts |= {f"{table.name}.csv": table.to_csv(), f"{table.name}.tex": table.to_latex()}
    if report.citations:
        texts["methods.bib"] = "\n\n".join(report.citations) + "\n"
    for group in report.facts.groups:
        config = config_toml(group.views[0].run.config)
        texts[f"experiment-{group.letter}.toml"] = config
        texts |= rows_of(group)
    for name, text in texts.items():
        _write(folder / name, text.encode(), "--figures")
        paths.append(folder / name)
    return paths


def require_folder(path: Path, option: str) -> None:
    """Check that the folder of a file exists and can be written, before the work begins.

    Raises:
        ConfigError: it does not exist, or it cannot be written.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(
            f"{path} cannot be written (there is no folder {folder}); choose another place with "
            f"{option}"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)), option)


def unwritable(path: Path, error: OSError, option: str) -> ConfigError:
    """Return the error for a file that cannot be written."""
    return ConfigError(
        f"{path} cannot be written ({error.strerror or error}); make room, or choose another "
        f"place with {option}"
    )


def _functions(report: Report) -> list[Chart]:
    found = [
        function_chart(f"episode-{drawn.group.letter}-{episode.index}", episode)
        for drawn in report.drawn
        for episode in drawn.episodes
        if not episode.classes
    ]
    return [chart for chart in found if chart is not None]


def _write(path: Path, data: bytes, option: str) -> None:
    try:
        with drafting(path, mode=0o644, survives=False) as draft:
            draft.write_bytes(data)
    except OSError as error:
        raise unwritable(path, error, option) from error

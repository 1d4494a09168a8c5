"""`metafleet predict`: label a folder of items with a model."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from metafleet.data.importing.reading import require_there
from metafleet.errors import ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.doubts import Doubt
from metafleet.inference.from_encoder import read_encoders
from metafleet.inference.labelling import Labelling, precision_of
from metafleet.inference.loading import load_model
from metafleet.inference.prediction import Prediction, Value
from metafleet.inference.prediction_file import check_out, write_predictions
from metafleet.inference.question_queue import check_queue, write_queue
from metafleet.orchestrator.cli.arguments import OutputFile, PathType, Share
from metafleet.orchestrator.cli.context import load_settings
from metafleet.orchestrator.cli.data_view import progress_bar
from metafleet.orchestrator.cli.encoder_base import moved_encoder_option
from metafleet.orchestrator.cli.reading import is_model, read_options, reading_options
from metafleet.orchestrator.reporting.figures import counted
from metafleet.orchestrator.reporting.output import notify

DEFAULT_COVERAGE: Final = 0.9
"""Coverage of label sets if the user asks only for a queue."""


@click.command()
@click.argument("model", type=PathType(path_type=Path))
@click.argument("folder", type=PathType(path_type=Path))
@click.option(
    "--out",
    type=OutputFile(),
    help="The .csv or .jsonl file to write; default: CSV on standard output.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    help="Minimum probability of a label, if items may have several labels; default: 0.5.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--coverage",
    type=Share(),
    help="Add a verdict, and a label set that contains the right label with this probability.",
)
@click.option(
    "--unknown", is_flag=True, help="Detect items that are in none of the classes; add a verdict."
)
@click.option(
    "--ask",
    type=OutputFile(),
    help="Write the doubtful items to this .csv, for `metafleet adapt MODEL --correct`.",
)
@moved_encoder_option
@reading_options
def predict(  # noqa: PLR0913 - options of one command
    model: Path,
    folder: Path,
    *,
    out: Path | None,
    threshold: float | None,
    force: bool,
    coverage: float | None,
    unknown: bool,
    ask: Path | None,
    encoders: Sequence[str],
    **reading: Any,
) -> None:
    """Label the items of FOLDER (or of a manifest) with MODEL.

    The output has one row for each item, with probabilities. If FOLDER names the classes of its
    items, the output also shows these classes, and the command prints how many predictions agree
    with them.

    \b
    metafleet predict new-pets.model ~/photos
    metafleet predict new-pets.model ~/photos --out labels.jsonl
    metafleet predict new-pets.model ~/photos --coverage 0.9 --unknown
    metafleet predict new-pets.model ~/photos --ask queue.csv
    """
    options = read_options(**reading)
    check_out(out, force=force)
    if ask is not None:
        check_queue(ask, force=force)
        _check_differ(out, ask)
        if coverage is None and not unknown:
            coverage = DEFAULT_COVERAGE
    if not is_model(str(model)):
        raise ModelError(
            f"there is no model at {model}; of a run, `metafleet adapt {model} --support FOLDER "
            "--out MODEL` makes one"
        )
    require_there(folder.expanduser())
    settings = load_settings()
    loaded = load_model(
        model, allowed_packages=settings.allowed_packages, encoders=read_encoders(encoders)
    )
    if not isinstance(loaded, AdaptedModel):
        raise ModelError(
            f"{model} has not been adapted to any classes; run `metafleet adapt {model} --support "
            "FOLDER --out MODEL` first"
        )
    with progress_bar() as progress:
        found = loaded.predict(
            folder,
            options,
            coverage=coverage,
            unknown=unknown,
            threshold=threshold,
            progress=progress,
        )
    for note in found.notes:
        notify(note)
    write_predictions(found.rows, out, force=force)
    _tell_agreement(found.rows, loaded)
    rows = [row for row in found.rows if isinstance(row, Prediction)]
    if coverage is not None or unknown:
        _tell_doubts(rows)
    if ask is not None:
        n_asked = write_queue(rows, folder, ask, force=force)
        notify(
            f"{ask}: {counted(n_asked, 'item')}; fill in the column 'label', then `metafleet adapt "
            f"{model} --correct {ask} --out NEW-MODEL`"
        )


def _check_differ(out: Path | None, ask: Path) -> None:
    """Check that predictions and queue are written to two files."""
    if out is None:
        return
    is_same = os.path.realpath(out) == os.path.realpath(ask)
    if is_same or (out.exists() and ask.exists() and out.samefile(ask)):
        raise ModelError(
            f"--out {out} and --ask {ask} are the same file; give the queue another name"
        )


def _tell_doubts(rows: Sequence[Prediction]) -> None:
    """Report how many items a person must label, by reason. Each item counts for one reason."""
    why = Counter(_reason(row.doubt) for row in rows if row.asks_a_person)
    listed = ", ".join(f"{n} {reason}" for reason, n in why.most_common())
    told = f"{why.total()} of {counted(len(rows), 'item')} to ask a person about"
    notify(f"{told} ({listed})" if why else told)


def _reason(doubt: Doubt) -> str:
    if doubt.unknown:
        return "of none of the classes"
    return "with several labels" if doubt.labels else "without a label"


def _tell_agreement(rows: tuple[Prediction | Labelling | Value, ...], model: AdaptedModel) -> None:
    labelled = [row for row in rows if isinstance(row, Labelling)]
    if (precision := precision_of(labelled)) is not None:
        share, n_items = precision
        notify(f"mean average precision {100 * share:.1f} % over {n_items} items with known labels")
    known = [row for row in rows if isinstance(row, Prediction) and row.given in model.classes]
    if known:
        right = sum(row.given == row.label for row in known)
        share = 100.0 * right / len(known)
        notify(
            f"{right} of {len(known)} items with a known class labelled correctly ({share:.1f} %)"
        )

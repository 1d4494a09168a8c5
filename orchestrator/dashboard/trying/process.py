"""The process that adapts and predicts. It reads one JSON request, and writes one JSON answer.

The process imports torch and decodes files, so that the server does neither. It has a low priority.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from metafleet.contracts.settings import Settings
from metafleet.data.decoding.registry import DECODERS
from metafleet.db.engine import Database
from metafleet.db.repositories.evaluations import EvaluationRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.encoders.fetching import allow_fetching
from metafleet.errors import ConfigError, DataError, MetafleetError
from metafleet.inference.from_encoder import few_shot_model, read_encoders
from metafleet.inference.items import ReadOptions
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import load_model
from metafleet.inference.prediction import Prediction
from metafleet.orchestrator.runs.learned_run import learned_by

_KINDS: Final = ("image", "audio", "text")
_NICENESS: Final = 10
_LAYOUT: Final = "layout: "
"""Start of the notes on how the folders are laid out, which no one chose."""


def main() -> None:
    """Answer the request on standard input."""
    import torch  # noqa: PLC0415 - imported by what is above, named only here

    os.nice(_NICENESS)
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print
    request = json.load(sys.stdin)
    allow_fetching(False)
    try:
        found = _answer(request, Settings.load())
    except MetafleetError as error:
        found = {"problem": str(error)}
    except Exception as error:
        found = {"problem": f"{type(error).__name__}: {error!s:.200}"}
    if "problem" in found:
        found = {"problem": _one_line(found["problem"].replace(f"{request['folder']}/", ""))}
    answers.write(json.dumps(found))
    answers.flush()


def _one_line(text: str) -> str:
    """Return the first line; of several problems, which a summary follows, say how many more."""
    first, *others = text.splitlines() or [""]
    return f"{first}; and {len(others) - 1} more" if len(others) > 1 else first


def _answer(request: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    folder = Path(request["folder"])
    _check_suffixes(folder)
    learned = _open(request["base"], settings)
    adapted = learned.adapt(folder / "support", ReadOptions(layout="class_folders"))
    calibration = adapted.calibration
    predictions = adapted.predict(folder / "query", unknown=calibration is not None)
    rows = [row for row in predictions if isinstance(row, Prediction)]
    if len(rows) != len(predictions):
        raise ConfigError("this model does not give an item one class; choose another")
    return {
        "rows": [
            {
                "item": row.item,
                "label": row.label,
                "unknown": bool(row.doubt.unknown),
                "probabilities": dict(row.probabilities),
            }
            for row in rows
        ],
        "notes": [n for n in (*adapted.notes, *predictions.notes) if not n.startswith(_LAYOUT)],
        "is_calibrated": calibration is not None,
    }


def _check_suffixes(folder: Path) -> None:
    """Refuse files that are no picture, sound or text, such as tables and archives."""
    known = {suffix for kind in _KINDS for suffix in DECODERS[kind].suffixes}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() not in known:
            raise DataError(
                f"{path}: {path.suffix or 'no suffix'!r:.20} is no suffix of a picture, sound or "
                "text; expected one such as .png, .wav or .txt"
            )


def _open(base: Mapping[str, Any], settings: Settings) -> LearnedModel:
    allowed = settings.allowed_packages
    if "encoder" in base:
        return few_shot_model(read_encoders([base["encoder"]]), allowed_packages=allowed)
    if "model" in base:
        return LearnedModel(load_model(base["model"], allowed_packages=allowed).learned)
    with (
        Database.open(settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        run = RunRepository(session).get(base["run"])
        evaluations = EvaluationRepository(session).list(run.id)
    return learned_by(settings, run, evaluations, lambda text: None)


if __name__ == "__main__":
    main()

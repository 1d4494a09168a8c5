"""Which evaluation of a run is drawn again, and on which episodes it was."""

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from metafleet.db.records import EpisodeResultsRecord, RunRecord
from metafleet.db.repositories.episode_results import EpisodeResultsRepository
from metafleet.db.repositories.evaluations import TRAINED
from metafleet.errors import ConfigError
from metafleet.splits import META_TEST, META_VAL

_NEXT: Final = re.compile(r", (?=[a-z][a-z_.]*=)")
_CUT: Final = re.compile(r"~[0-9a-f]{8}$")


def find_evaluated(
    session: Connection, run: RunRecord, *, split: str = "", label: str = TRAINED
) -> EpisodeResultsRecord | None:
    """Return the evaluation of a run whose episodes are worth looking at; None if there is none.

    Args:
        session: the database.
        run: the run.
        split: the split; "" for the meta-test, or, if the run has none, for meta-validation.
        label: the evaluated state, with changes of its episodes, as the evaluation was recorded.
    """
    repository = EpisodeResultsRepository(session)
    for each in (split,) if split else (META_TEST, META_VAL):
        found = repository.list(run.id, split=each, label=label)
        if found:
            return _best_of(found)
    return None


def pick(records: Sequence[EpisodeResultsRecord]) -> EpisodeResultsRecord:
    """Return the evaluation to show first: that of the trained state on the meta-test, if any."""
    for split in (META_TEST, META_VAL):
        found = [each for each in records if (each.split, each.label) == (split, TRAINED)]
        if found:
            return _best_of(found)
    return records[-1]


def _best_of(found: Sequence[EpisodeResultsRecord]) -> EpisodeResultsRecord:
    """Return the evaluation of the best state; of several of one state, that of most episodes."""

    def quality(record: EpisodeResultsRecord) -> tuple[float, int]:
        values = record.accuracies or tuple(-loss for loss in record.losses)
        return sum(values) / max(1, len(values)), record.episodes

    if found[0].split == META_TEST:
        return max(found, key=lambda record: (record.step, record.episodes))
    return max(found, key=quality)


def changes_in(record: EpisodeResultsRecord) -> list[str]:
    """Return the assignments to [episodes] that the label of an evaluation names.

    Raises:
        ConfigError: the label was too long and was cut.
    """
    if _CUT.search(record.label):
        raise ConfigError(
            f"evaluation {record.label!r:.80} has too many changes of its episodes to be recorded, "
            "so its episodes cannot be drawn again; evaluate again with fewer --set"
        )
    return [f"episodes.{change}" for change in _NEXT.split(record.label)[1:]]


def worst_first(record: EpisodeResultsRecord) -> list[int]:
    """Return the numbers of the episodes, those with the worst result first.

    Episodes with the same accuracy are ordered by loss, and then by number.
    """
    accuracies = record.accuracies or (0.0,) * len(record.losses)
    return sorted(range(len(record.losses)), key=lambda i: (accuracies[i], -record.losses[i], i))

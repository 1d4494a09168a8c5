"""The results of each episode of evaluations."""

from metafleet.db.records import EPISODE_RESULTS, EpisodeResultsRecord
from metafleet.db.repositories.run_rows import RunRows


class EpisodeResultsRepository(RunRows[EpisodeResultsRecord]):
    """Results of episodes of runs."""

    table, record = EPISODE_RESULTS, EpisodeResultsRecord

    def list(
        self, run_id: int, *, split: str | None = None, label: str | None = None
    ) -> tuple[EpisodeResultsRecord, ...]:
        """Return the results of a run's evaluations, in order of steps and episodes."""
        columns = self.table.c
        query = self._select(run_id).order_by(columns.step, columns.episodes)
        if split is not None:
            query = query.where(columns.split == split)
        if label is not None:
            query = query.where(columns.label == label)
        return self._read(query)

    def find(
        self, run_id: int, *, split: str, label: str, step: int
    ) -> EpisodeResultsRecord | None:
        """Return the results of the evaluation of one state; of several, those of most episodes."""
        columns = self.table.c
        query = self._select(run_id).where(
            columns.split == split, columns.label == label, columns.step == step
        )
        found = self._read(query.order_by(columns.episodes.desc()).limit(1))
        return found[0] if found else None

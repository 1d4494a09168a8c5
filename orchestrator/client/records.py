"""Finds and compares the runs of an open database: for the client and for commands."""

from collections.abc import Sequence

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.records.arms import find_arm, find_arms
from metafleet.orchestrator.records.comparison import Comparison, compare_arms
from metafleet.orchestrator.records.selecting import Selection, select_runs
from metafleet.splits import META_TEST


class Records:
    """The runs of an open database.

    Args:
        database: an open database.
        settings: locations of the checkpoints and the data.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings

    def run(self, ref: int | str = "latest") -> Run:
        """Return a run by id, uid, name (the newest of that name) or "latest".

        Raises:
            RunNotFoundError: there is no such run.
        """
        with self._database.session(read_only=True) as session:
            return self._of(RunRepository(session).get(ref))

    def named(self, name: str) -> list[Run]:
        """Return the runs that one argument of `metafleet runs compare` stands for.

        An id, a uid or "latest" stands for one run; a name or a filter for one run of each seed.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a filter matches no run, or runs that differ in more than the seed.
        """
        with self._database.session(read_only=True) as session:
            return [self._of(entry.run) for entry in find_arm(session, name).runs]

    def runs(
        self,
        where: str | Sequence[str] = "",
        *,
        sort: str = "",
        limit: int | None = None,
        archived: bool = False,
    ) -> list[Run]:
        """Return runs, newest first.

        Args:
            where: a filter, in the language of `metafleet runs list --where`. An example is
                "outer.lr<0.01 and status=finished". With "", all runs are returned. Of several
                filters, all must hold.
            sort: keys to sort by, separated by commas. "-" before a key means descending order.
            limit: maximum number of runs; None for all.
            archived: whether to return archived runs as well.

        Raises:
            ConfigError: the filter cannot be parsed, or a key of the filter occurs in no run.
        """
        filters = [where] if isinstance(where, str) else where
        wanted = Selection.parse(filters, sort, with_archived=archived, limit=limit)
        with self._database.session(read_only=True) as session:
            return [self._of(entry.run) for entry in select_runs(session, wanted)]

    def compare(self, *names: str, split: str = META_TEST) -> Comparison:
        """Compare each further run or group with the first one, like `metafleet runs compare`.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: there are fewer than two names, or a filter matches runs that differ in
                more than the seed.
        """
        with self._database.session(read_only=True) as session:
            return compare_arms(session, find_arms(session, names), split)

    def _of(self, record: RunRecord) -> Run:
        return Run(self._database, self._settings, record)

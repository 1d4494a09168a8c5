"""A sweep: its trials are runs with three tags, so that it needs no records of its own."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from metafleet.contracts.settings import Settings
from metafleet.data.registry import pin
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus
from metafleet.digests import json_sha256
from metafleet.errors import ConfigError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.records.difference import difference
from metafleet.orchestrator.records.entry import Entry, find_in
from metafleet.orchestrator.records.selecting import Selection, select_runs
from metafleet.orchestrator.runs.launch import Queueing, create_runs
from metafleet.orchestrator.sweeps.proposals import Outcome, propose
from metafleet.orchestrator.sweeps.space import Parameter, assignment

_TRIAL: Final = "trial:"
_OWN_KEYS: Final = ("test.episodes",)
"""Keys in which every trial differs from the file: trials are not tested."""
_ENDED: Final = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The description of a sweep.

    Attributes:
        name: name of the sweep and of its runs.
        config: the configuration that the trials change.
        space: the keys that the trials change, with their possible values.
        sampler: one of ``SAMPLERS``.
        seed: seed of the proposals. The runs have the seed of ``config``, so that all runs are
            validated on the same episodes.
        n_trials: number of configurations to try.
    """

    name: str
    config: ExperimentConfig
    space: tuple[Parameter, ...]
    sampler: str
    seed: int
    n_trials: int

    @property
    def tag(self) -> str:
        """The tag of the sweep's runs."""
        return f"sweep:{self.name}"

    @property
    def space_tag(self) -> str:
        """A tag of the sweep's runs that tells other spaces, samplers and seeds apart."""
        space = [[type(one).__name__, asdict(one)] for one in self.space]
        return f"space:{json_sha256([space, self.sampler, self.seed])[:12]}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial, which is one configuration of a sweep, and its run.

    Attributes:
        number: number of the trial, from 0.
        entry: the run with its results.
        values: key of the sweep's space -> value in this trial.
    """

    number: int
    entry: Entry
    values: dict[str, Any]

    @property
    def run(self) -> RunRecord:
        """The run."""
        return self.entry.run

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended for good; an interrupted one is continued."""
        return self.run.status in _ENDED

    @property
    def score(self) -> float | None:
        """The best meta-validation, negative for losses; None unless the run is finished."""
        value: float | None = self.entry.value("best")
        if value is None or self.run.status is not RunStatus.FINISHED:
            return None
        return value if self.entry.is_share("best") else -value


class Sweep:
    """The trials of a plan, in a database. One process at a time may add trials.

    Args:
        database: an open database.
        settings: where the data are.
        plan: the description of the sweep.

    Raises:
        ConfigError: the configuration has no validations.
    """

    def __init__(self, database: Database, settings: Settings, plan: Plan) -> None:
        if not plan.config.validation.every:
            raise ConfigError(
                "validation.every=0, so trials could not be compared; expected 1 or more, for "
                "example --set validation.every=100"
            )
        self._database, self._settings, self._plan = database, settings, plan
        data = pin(plan.config.data, settings.data_dir)  # as in the runs
        self._config = plan.config.with_data(data).to_json()

    def trials(self) -> list[Trial]:
        """Return the trials so far, in the order of their numbers.

        Raises:
            ConfigError: the database has trials with the sweep's name, but with another
                configuration or other keys.
        """
        wanted = Selection.parse([f"tags='{self._plan.tag}'"], with_archived=True)
        with self._database.session(read_only=True) as session:
            found = select_runs(session, wanted)
        keys = [parameter.key for parameter in self._plan.space]
        trials = []
        for entry in found:
            self._check(entry, keys)
            (number,) = (int(t.removeprefix(_TRIAL)) for t in entry.tags if t.startswith(_TRIAL))
            values = {key: find_in(entry.run.config, key) for key in keys}
            trials.append(Trial(number, entry, values))
        return sorted(trials, key=lambda trial: trial.number)

    def add_trial(self, *, detached: bool) -> RunRecord:
        """Record the run of the next trial, for this process or for the servers' queue.

        Raises:
            ConfigError: the proposed configuration is invalid; the message names its values.
        """
        trials = self.trials()
        used = {trial.number for trial in trials}
        number = next(n for n in itertools.count() if n not in used)  # a run may be deleted
        values = propose(
            self._plan.space,
            self._plan.sampler,
            seed=self._plan.seed,
            number=number,
            earlier=[_outcome(trial) for trial in trials],
        )
        texts = [assignment(key, value) for key, value in values.items()]
        try:
            config = ExperimentConfig.changed(
                self._plan.config.to_json(),
                [*texts, "test.episodes=0"],
                origin="configuration",
                allowed_packages=self._settings.allowed_packages,
            )
        except ConfigError as error:
            problem = str(error).replace("--set", "--over")
            raise ConfigError(f"trial {number} ({', '.join(texts)}): {problem}") from error
        (run,) = create_runs(
            self._database,
            self._settings,
            config,
            seeds=[config.seed],
            name=self._plan.name,
            queue=Queueing(detached=detached),
            tags=(self._plan.tag, self._plan.space_tag, f"{_TRIAL}{number}"),
        )
        return run

    def _check(self, entry: Entry, keys: Sequence[str]) -> None:
        """Check that a trial could be one of this plan."""
        start = f"sweep {self._plan.name!r} was begun with"
        end = "choose another --name, or give the options of that sweep"
        for change in difference(self._config, entry.run.config):
            if change.key not in (*keys, *_OWN_KEYS):
                raise ConfigError(
                    f"{start} {change.key}={change.after!r:.40}, not {change.before!r:.40}; {end}"
                )
        if self._plan.space_tag not in entry.tags:
            raise ConfigError(f"{start} other --over, --sampler or --seed; {end}")


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the best meta-validation, of equal ones the first; None without one."""
    scored = [trial for trial in trials if trial.score is not None]
    return max(scored, key=lambda trial: (trial.score, -trial.number)) if scored else None


def _outcome(trial: Trial) -> Outcome:
    score = trial.score
    return Outcome(trial.values, score, has_failed=score is None and trial.has_ended)

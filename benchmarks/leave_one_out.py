"""Simulates sweeps on recorded results of a pool of configurations."""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from metafleet.orchestrator.advice.evidence import Contest, key_of
from metafleet.orchestrator.advice.ranking import Ranking
from metafleet.orchestrator.sweeps.warm_start import MOST

METHODS: Final = ("random", "warm + random", "tpe", "warm + tpe", "average rank + random")
FIRST: Final = MOST
"""Configurations with which a warm-started sweep begins."""
_STARTUP: Final = 8
"""Random trials before TPE, as in `metafleet sweep`."""
_TPE_SHARE: Final = 5
"""TPE is slow, so only each fifth seed has sweeps by TPE."""
_GOOD: Final = 0.95
_AFTER: Final = (1, 3, 5, 10)
_RESAMPLES: Final = 2000
Order = Iterator[int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulated sweep.

    Attributes:
        data: the data set that was left out.
        method: one of ``METHODS``.
        trials: number of the trial, from 1, that was the first with a good configuration.
        best: share of the best accuracy above chance that the sweep had after some trials.
    """

    data: str
    method: str
    trials: int
    best: tuple[float, ...]


def source_of_name(data: str) -> str:
    """Return the source of a data set: the first part of its name."""
    return data.partition("-")[0]


def simulate(contests: Sequence[Contest], *, leaving: str, n_seeds: int) -> list[Outcome]:
    """Leave out each data set, or all data of its source, and repeat sweeps on it.

    Args:
        contests: results of the same configurations on all data sets.
        leaving: "set" or "source".
        n_seeds: seeds of each kind of sweep.
    """
    found = []
    for target in contests:
        others = _others(target, contests, leaving)
        found += list(_on(target, others, n_seeds))
    return found


def summarise(outcomes: Sequence[Outcome]) -> dict[str, dict[str, str]]:
    """Return method -> figure -> mean with its bootstrap interval over data sets and seeds."""
    rng = np.random.default_rng(0)
    data = sorted({outcome.data for outcome in outcomes})
    trials = {m: _matrix(outcomes, data, m, lambda o: float(o.trials)) for m in METHODS}
    tables: dict[str, dict[str, str]] = {m: {"trials": _interval(trials[m], rng)} for m in METHODS}
    for place, n in enumerate(_AFTER):
        for method in METHODS:
            shares = _matrix(outcomes, data, method, lambda o, at=place: 100 * o.best[at])
            tables[method][f"after {n}"] = _interval(shares, rng)
    tables["difference"] = {
        f"'{warm}' before '{cold}'": _interval(trials[cold] - trials[warm], rng)
        for cold, warm in (("random", "warm + random"), ("tpe", "warm + tpe"))
    }
    return tables


def without_distances(contests: Sequence[Contest], *, leaving: str, n_seeds: int) -> str:
    """Return the trials to 95 % if a sweep begins with the best mean ranks, whatever the distance.

    The comparison with "average rank + random" shows what meta-features add.
    """
    found = []
    for target in contests:
        others = _others(target, contests, leaving)
        skills, values = target.skills() or [], [result.values for result in target.results]
        ranks = {key_of(each): 0.0 for each in values}
        for contest in others:
            for result, rank in zip(contest.results, contest.ranks(), strict=True):
                ranks[key_of(result.values)] += rank
        order = sorted(range(len(values)), key=lambda at: -ranks[key_of(values[at])])
        found += [
            _outcome(
                target.data, METHODS[0], skills, _begun(order[:FIRST], _random(len(values), seed))
            )
            for seed in range(n_seeds)
        ]
    data = sorted({outcome.data for outcome in found})
    trials = _matrix(found, data, METHODS[0], lambda outcome: float(outcome.trials))
    return _interval(trials, np.random.default_rng(0))


def _others(target: Contest, contests: Sequence[Contest], leaving: str) -> list[Contest]:
    """Return the contests that may advise a target."""
    return [
        contest
        for contest in contests
        if contest.data != target.data
        and (leaving == "set" or source_of_name(contest.data) != source_of_name(target.data))
    ]


def _on(target: Contest, others: Sequence[Contest], n_seeds: int) -> Iterator[Outcome]:
    skills = target.skills()
    assert skills is not None  # every data set of the benchmark is classification
    values = [result.values for result in target.results]
    place = {key_of(each): number for number, each in enumerate(values)}
    best = Ranking(target.description, others).best()
    advised = [place[key_of(each.values)] for each in best]
    by_rank = sorted(best, key=lambda each: -each.average_rank)
    ranked = [place[key_of(each.values)] for each in by_rank]
    for seed in range(n_seeds):
        orders = {
            "random": _random(len(values), seed),
            "warm + random": _begun(advised[:FIRST], _random(len(values), seed)),
            "average rank + random": _begun(ranked[:FIRST], _random(len(values), seed)),
        }
        if seed < n_seeds // _TPE_SHARE:
            orders["tpe"] = _tpe(values, skills, seed)
            orders["warm + tpe"] = _tpe(values, skills, seed, advised[:FIRST])
        for method, order in orders.items():
            yield _outcome(target.data, method, skills, order)


def _outcome(data: str, method: str, skills: Sequence[float], order: Order) -> Outcome:
    most, best, reached = max(skills), [], 0
    top = -np.inf
    for number, chosen in enumerate(order, 1):
        top = max(top, skills[chosen])
        best.append(max(top, 0.0) / most)
        if not reached and top >= _GOOD * most:
            reached = number
        if reached and number >= _AFTER[-1]:
            break
    return Outcome(data, method, reached, tuple(best[n - 1] for n in _AFTER))


def _random(n: int, seed: int) -> Order:
    order = list(range(n))
    random.Random(seed).shuffle(order)
    yield from order


def _begun(first: Sequence[int], order: Order) -> Order:
    yield from first
    yield from (chosen for chosen in order if chosen not in first)


def _tpe(
    values: Sequence[Mapping[str, Any]],
    skills: Sequence[float],
    seed: int,
    first: Sequence[int] = (),
) -> Order:
    """Yield what TPE chooses; a configuration outside the pool counts as the nearest one in it."""
    import optuna  # noqa: PLC0415 - an optional package

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keys = sorted({key for each in values for key in each})
    choices = {k: sorted({repr(each.get(k)) for each in values}) for k in keys}
    choices = {key: found for key, found in choices.items() if len(found) > 1}
    codes = np.array(
        [[found.index(repr(e.get(k))) for k, found in choices.items()] for e in values]
    )
    kinds = {
        k: optuna.distributions.CategoricalDistribution(range(len(c))) for k, c in choices.items()
    }
    left = set(range(len(values)))
    start = [c for c in _random(len(values), seed) if c not in first][:_STARTUP]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, multivariate=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for chosen in (*first, *start):
            study.add_trial(_trial(optuna, kinds, codes[chosen], skills[chosen]))
            left.discard(chosen)
            yield chosen
        while left:
            asked = study.ask(kinds).params
            wanted = np.array([asked[key] for key in kinds])
            chosen = min(left, key=lambda c: (int((codes[c] != wanted).sum()), c))
            study.add_trial(_trial(optuna, kinds, codes[chosen], skills[chosen]))
            left.discard(chosen)
            yield chosen


def _trial(optuna: Any, kinds: Mapping[str, Any], code: npt.NDArray[Any], skill: float) -> Any:
    params = {key: int(each) for key, each in zip(kinds, code, strict=True)}
    return optuna.trial.create_trial(params=params, distributions=dict(kinds), value=skill)


def _matrix(
    outcomes: Sequence[Outcome],
    data: Sequence[str],
    method: str,
    figure: Callable[[Outcome], float],
) -> npt.NDArray[np.float64]:
    """Return a figure for each data set and seed, [sets, seeds]."""
    rows = [[figure(o) for o in outcomes if o.method == method and o.data == name] for name in data]
    return np.array(rows)


def _interval(figures: npt.NDArray[np.float64], rng: np.random.Generator) -> str:
    """Format the mean and its 95 % interval: data sets are drawn again, and seeds within them."""
    n_sets, n_seeds = figures.shape
    sets = rng.integers(0, n_sets, (_RESAMPLES, n_sets))
    seeds = rng.integers(0, n_seeds, (_RESAMPLES, n_sets))
    # one draw of seeds for each drawn data set would hide their spread, so means are of n_seeds
    own = figures.mean(axis=1)[sets] + (
        figures[sets, seeds] - figures.mean(axis=1)[sets]
    ) / np.sqrt(n_seeds)
    low, high = np.percentile(own.mean(axis=1), [2.5, 97.5])
    return f"{figures.mean():.1f} ({low:.1f} to {high:.1f})"

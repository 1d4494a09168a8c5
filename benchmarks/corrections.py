"""How much it brings that a person labels the most doubtful items of an episode.

    python -m benchmarks.corrections RUN [--episodes 200] [--corrections 10] [--k-shot 1]

Each episode is of the run's meta-test classes. Half of its queries are predicted; of these, the
most doubtful (the least probable of the likeliest labels) get their right label and join the
support set, as `metafleet adapt --correct` does. The other half judges the model before and after,
and after as many labels of random queries. Intervals are of 95 %, over episodes; those of gains are
of the differences within episodes.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories.runs import RunRepository
from metafleet.episode import META_TEST, Episode, ExampleSet
from metafleet.learners.base import Learner
from metafleet.learners.summary import mean_and_half_width
from metafleet.orchestrator.runs.learned_work import LearnedWork, open_learned_work
from metafleet.params import MetaState
from metafleet.purity.process_state import kept_as_it_is, seed_generators
from metafleet.seeds import CounterRng

STEP = 2
"""Of the addresses of episodes: evaluations are of step 0."""


def main() -> None:
    """Measure and print; write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="id, uid, name or latest")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--corrections", type=int, default=10)
    parser.add_argument("--k-shot", type=int, default=1)
    parser.add_argument("--n-query", type=int, default=12, help="of a class; half of them judge")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    overrides = [f"episodes.k_shot={asked.k_shot}", f"episodes.n_query={asked.n_query}"]
    settings = Settings.load()
    with Database.open(settings.database_url) as database:
        with database.session(read_only=True) as session:
            run = RunRepository(session).get(asked.run)
        work = open_learned_work(settings, run, split=META_TEST, overrides=overrides, notify=print)
    rows = [measure(work, index, asked.corrections) for index in range(asked.episodes)]
    before, doubtful, random = zip(*rows, strict=True)
    found = {
        "before": mean_and_half_width(before),
        f"{asked.corrections} most doubtful": mean_and_half_width(doubtful),
        f"{asked.corrections} random": mean_and_half_width(random),
        "gain of the doubtful": mean_and_half_width(_gains(before, doubtful)),
        "gain of the random": mean_and_half_width(_gains(before, random)),
    }
    shape = work.config.episodes.shape(META_TEST)
    print(f"{run.name}: {asked.episodes} episodes, {shape.n_way}-way {shape.k_shot}-shot")
    for name, (mean, ci95) in found.items():
        print(f"{name:<22} {100 * mean:6.2f} ± {100 * ci95:.2f} %")
    if asked.json:
        asked.json.write_text(json.dumps(found))


def measure(work: LearnedWork, index: int, n: int) -> tuple[float, float, float]:
    """Return the accuracy before, after the most doubtful, and after random corrections."""
    seed, learner = work.config.seed, work.workload.learner
    shape = work.config.episodes.shape(META_TEST)
    rng = CounterRng(seed, META_TEST, STEP, index)
    episode = work.workload.source.sample(META_TEST, shape, rng)
    with kept_as_it_is():
        seed_generators(CounterRng(seed, "corrections", STEP, index))
        pool, judged = (_rows(episode.query, slice(start, None, 2)) for start in (0, 1))
        logits = learner.predict(work.state, episode.support, pool.inputs, episode.n_way)
        sureness = logits.double().softmax(dim=1).amax(dim=1)
        doubtful = sureness.argsort(stable=True)[:n]
        random = torch.tensor(CounterRng(seed, "random", STEP, index).sample(len(pool), n))
        supports = [
            episode.support,
            *(_joined(episode.support, _rows(pool, each)) for each in (doubtful, random)),
        ]
        scores = [
            accuracy(learner, work.state, replace(episode, support=support, query=judged))
            for support in supports
        ]
    return scores[0], scores[1], scores[2]


def accuracy(learner: Learner, state: MetaState, episode: Episode) -> float:
    """Return the share of queries that are classified rightly."""
    found = learner.evaluate(state, episode).accuracy
    assert found is not None
    return found


def _gains(before: Sequence[float], after: Sequence[float]) -> list[float]:
    return [b - a for a, b in zip(before, after, strict=True)]


def _rows(examples: ExampleSet, chosen: Tensor | slice) -> ExampleSet:
    inputs = {name: values[chosen] for name, values in examples.inputs.items()}
    return ExampleSet(inputs, examples.targets[chosen])


def _joined(one: ExampleSet, other: ExampleSet) -> ExampleSet:
    targets = torch.cat([one.targets, other.targets])
    order = targets.argsort(stable=True)
    joined = {name: torch.cat([v, other.inputs[name]])[order] for name, v in one.inputs.items()}
    return ExampleSet(joined, targets[order])


if __name__ == "__main__":
    main()

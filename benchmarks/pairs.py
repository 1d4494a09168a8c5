"""Measure multimodal one-shot matching: hear a word, and point at the right picture.

    python -m benchmarks.pairs RUN [--heard audio] [--seen image] [--episodes 1000]

The protocol is that of Eloff et al. 2019, arXiv:1811.03875. The support set has one pair per class,
for example a spoken word and a picture. Classes are those of the run's meta-testing. A query is
compared with the words of the support set. The picture of the most similar pair is compared with
the pictures of a matching set, which has one new picture per class. The answer is the most similar
of these pictures. The matching set has the pictures of the query items, so no file of the support
set occurs in it. Intervals are 95 % intervals over episodes.
"""

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories.runs import RunRepository
from metafleet.episode import META_TEST, Episode, ExampleSet, is_presence_key, presence_key
from metafleet.learners.base import Learner
from metafleet.learners.memory import memorise, predict_from
from metafleet.learners.summary import mean_and_half_width
from metafleet.orchestrator.runs.learned_work import LearnedWork, open_learned_work
from metafleet.params import MetaState
from metafleet.seeds import CounterRng

STEP = 2
"""The step in the addresses of episodes. Evaluations have step 0."""
MORE_CLASSES = 4
"""How many times as many classes are drawn, because some pairs lack a modality."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="id, uid, name or latest")
    parser.add_argument("--heard", default="audio", help="modality of the queries")
    parser.add_argument("--seen", default="image", help="modality of the matching set")
    parser.add_argument("--episodes", type=int, default=1000)
    asked = parser.parse_args()
    settings = Settings.load()
    with Database.open(settings.database_url) as database:
        with database.session(read_only=True) as session:
            run = RunRepository(session).get(asked.run)
        work = open_learned_work(settings, run, split=META_TEST, overrides=[], notify=print)
    n_way = work.config.episodes.shape(META_TEST).n_way
    print(f"{run.name}, seed {work.config.seed}: {asked.episodes} episodes, {n_way}-way 1-shot")
    states = {
        "without meta-training": work.workload.init_state(),
        "meta-trained": work.state,
    }
    episodes = [complete_pairs(work, index, n_way) for index in range(asked.episodes)]
    for name, state in states.items():
        rows = [
            match(work.workload.learner, state, each, (asked.heard, asked.seen))
            for each in episodes
        ]
        words = ("word", "picture", "word to picture")
        for word, shares in zip(words, zip(*rows, strict=True), strict=True):
            mean, ci95 = mean_and_half_width(shares)
            print(f"{name:<22} {word:<16} {100 * mean:6.2f} ± {100 * ci95:.2f} %")


def complete_pairs(work: LearnedWork, index: int, n_way: int) -> Episode:
    """Draw an episode whose support and query items all have every modality."""
    source = work.workload.source
    shape = replace(
        work.config.episodes.shape(META_TEST),
        n_way=min(MORE_CLASSES * n_way, source.n_classes(META_TEST)),
        k_shot=1,
        n_query=1,
        support_modalities=(),
        query_modalities=(),
        missing_rate=0.0,
    )
    whole = source.sample(META_TEST, shape, CounterRng(work.config.seed, META_TEST, STEP, index))
    is_whole = _has_all(whole.support) & _has_all(whole.query)
    chosen = is_whole.nonzero().squeeze(1)[:n_way]
    if len(chosen) < n_way:
        raise SystemExit(f"episode {index} has {len(chosen)} complete pairs; expected {n_way}")
    support, query = (
        replace(each.rows(chosen), targets=torch.arange(n_way))
        for each in (whole.support, whole.query)
    )
    return Episode(support, query, n_way)


def match(
    learner: Learner, state: MetaState, episode: Episode, modalities: tuple[str, str]
) -> tuple[float, float, float]:
    """Return the accuracies of the two steps and of both together.

    Args:
        learner: compares queries with the support set.
        state: the learned state of ``learner``.
        episode: pairs of each class: one for the support set, and one for queries.
        modalities: the modality of queries, and that of the matching set.
    """
    n_way = episode.n_way
    memory = memorise(learner, state, episode.support, n_way)
    heard, seen = (
        predict_from(learner, state, memory, _alone(episode.query, name), n_way)
        for name in modalities
    )
    right = torch.arange(n_way)
    pairs = heard.argmax(dim=1)
    pictures = seen.argmax(dim=0)  # for each pair, the most similar picture of the matching set
    found = (pairs == right, pictures == right, pictures[pairs] == right)
    word, picture, both = (float(each.double().mean()) for each in found)
    return word, picture, both


def _has_all(examples: ExampleSet) -> Tensor:
    masks = [v for name, v in examples.inputs.items() if is_presence_key(name)]
    return torch.stack([torch.ones(len(examples)), *masks]).bool().all(dim=0)


def _alone(examples: ExampleSet, modality: str) -> dict[str, Tensor]:
    """Return the inputs with all other modalities absent."""
    kept = (modality, presence_key(modality))
    inputs = {n: v if n in kept else torch.zeros_like(v) for n, v in examples.inputs.items()}
    return {presence_key(modality): torch.ones(len(examples)), **inputs}


if __name__ == "__main__":
    main()

"""Logits of the queries of many episodes, computed in the same way as by an adapted model."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metafleet.calibration.held_out import HeldOut, hold_out
from metafleet.data.summary import Progress, no_progress
from metafleet.episode import Episode, EpisodeShape
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import NumericsError
from metafleet.learners.base import Learner
from metafleet.learners.memory import memorise, predict_from
from metafleet.params import MetaState
from metafleet.purity.process_state import kept_as_it_is, seed_generators
from metafleet.seeds import CounterRng


@dataclass(frozen=True, slots=True)
class EpisodeLogits:
    """A learner's logits for the queries of episodes of one shape.

    Attributes:
        shape: shape of the episodes, not counting unknown classes.
        known: float64 [episodes, queries, n_way], logits of queries of the episode's classes.
        targets: int64 [episodes, queries], the classes of these queries.
        unknown: float64 [episodes, others, n_way], logits of queries of unknown classes. The number
            of others may be 0.
        held_out: for each episode, the predictions of the support examples that were held out.
    """

    shape: EpisodeShape
    known: Tensor
    targets: Tensor
    unknown: Tensor
    held_out: tuple[HeldOut, ...]

    @property
    def n_episodes(self) -> int:
        """The number of episodes."""
        return len(self.known)

    def difficulties(self, temperature: float) -> Tensor | None:
        """Return the difficulty of each episode's support set, float64 [episodes].

        Args:
            temperature: number by which logits of held-out examples are divided.

        Returns:
            None if there is an episode of which no example could be held out.
        """
        found = [each.difficulty(temperature) for each in self.held_out]
        if None in found:
            return None
        return torch.tensor(found, dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class EpisodeDraw:
    """The description of the episodes to draw.

    Attributes:
        source: the source of episodes.
        split: episodes are drawn from the classes of this split.
        shape: shape of the episodes, not counting unknown classes.
        n_unknown: number of unknown classes in an episode, which have queries but no support
            examples.
        seed: seed of the run.
        step: the outer step from which the seeds of the episodes are derived.
        n_episodes: number of episodes.
    """

    source: EpisodeSource
    split: str
    shape: EpisodeShape
    n_unknown: int
    seed: int
    step: int
    n_episodes: int


def episode_logits(
    learner: Learner, state: MetaState, draw: EpisodeDraw, progress: Progress = no_progress
) -> EpisodeLogits:
    """Adapt to each episode's support set, and return the logits of its queries.

    Queries of unknown classes are predicted in a separate batch, so that batch norm does not mix
    them with queries of known classes. Global random generators and torch's modes are restored
    afterwards.

    Raises:
        ConfigError: the split cannot fill such episodes.
        NumericsError: a logit is not finite.
    """
    known, targets, unknown, held_out = [], [], [], []
    stage = f"{draw.n_episodes} episodes, {draw.shape.n_way}-way {draw.shape.k_shot}-shot"
    with kept_as_it_is():
        for index in range(draw.n_episodes):
            episode, others = _sample(draw, index)
            seed_generators(CounterRng(draw.seed, f"{draw.split}/glob", draw.step, index))
            memory = memorise(learner, state, episode.support, episode.n_way)
            asked = [episode.query.inputs, *([others] if others else [])]
            logits = [predict_from(learner, state, memory, it, episode.n_way) for it in asked]
            rest = hold_out(learner, state, episode.support, episode.n_way)
            _require_finite([*logits, rest.logits], draw, index)
            known.append(logits[0].detach().double())
            targets.append(episode.query.targets)
            unknown.append(logits[1].detach().double() if others else known[-1][:0])
            held_out.append(rest)
            progress(stage, index + 1, draw.n_episodes)
    return EpisodeLogits(
        draw.shape,
        torch.stack(known),
        torch.stack(targets),
        torch.stack(unknown),
        tuple(held_out),
    )


def _sample(draw: EpisodeDraw, index: int) -> tuple[Episode, dict[str, Tensor]]:
    """Draw an episode that has unknown classes as well.

    The last classes of the drawn episode are the unknown ones. Classes are in random order, so any
    class of the split may be unknown. Return two things: the episode without the unknown classes,
    and the queries of the unknown classes.
    """
    n_way = draw.shape.n_way
    shape = replace(draw.shape, n_way=n_way + draw.n_unknown)
    rng = CounterRng(draw.seed, draw.split, draw.step, index)
    whole = draw.source.sample(draw.split, shape, rng)
    if not draw.n_unknown:
        return whole, {}
    is_known = whole.query.targets < n_way
    episode = Episode(
        support=whole.support.rows(whole.support.targets < n_way),
        query=whole.query.rows(is_known),
        n_way=n_way,
    )
    return episode, dict(whole.query.rows(~is_known).inputs)


def _require_finite(logits: list[Tensor], draw: EpisodeDraw, index: int) -> None:
    if not all(bool(each.isfinite().all()) for each in logits):
        raise NumericsError(
            f"{draw.split} step={draw.step} episode={index}: an output is not finite, so nothing "
            "can be said of probabilities; train with a lower learning rate"
        )

"""Evaluates a state after each inner step of its adaptation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from metafleet.db.records import InnerCurveRecord
from metafleet.learners.base import EpisodeMetrics
from metafleet.learners.summary import Summary, summarise
from metafleet.orchestrator.engine.step import Dispatcher, StepOutcome
from metafleet.orchestrator.training.evaluation import Judgement, evaluation_request
from metafleet.params import MetaState
from metafleet.workload import Workload, WorkloadSpec

_LEAST_EPISODES: Final = 20
_MOST_EPISODES: Final = 100

MOST_INNER_STEPS: Final = 1_000
"""Maximum number of inner steps with a curve: each step of each episode adds 4 numbers."""


def episodes_for(n_test: int) -> int:
    """Return the number of episodes for the inner curve of a run's test.

    It is a tenth of the test's ``n_test`` episodes, so that the curve costs little: an episode of
    the curve takes about as long as two to four episodes of the test.
    """
    return min(n_test, max(_LEAST_EPISODES, min(_MOST_EPISODES, n_test // 10)))


def has_inner_curve(workload: Workload) -> bool:
    """Return whether the learner adapts by inner steps, and not by too many."""
    return 0 < workload.n_inner_steps <= MOST_INNER_STEPS


def judge_inner_steps(
    dispatcher: Dispatcher,
    spec: WorkloadSpec,
    state: MetaState,
    judgement: Judgement,
    *,
    n_inner_steps: int,
    stream: str,
) -> tuple[InnerCurveRecord, StepOutcome]:
    """Evaluate ``state`` before the first and after each inner step.

    The episodes are the first ones of an evaluation by ``judge_state``.
    """
    per_episode = 2 * (n_inner_steps + 1)
    request = evaluation_request(spec, state, judgement, stream=stream)
    outcome = dispatcher.run_step(
        replace(request, kind="inner_curve", values_per_episode=per_episode)
    )
    return _curve_of(judgement, outcome.metrics, per_episode), outcome


def _curve_of(
    judgement: Judgement, metrics: Sequence[EpisodeMetrics], per_episode: int
) -> InnerCurveRecord:
    means = [summarise(metrics[place::per_episode]) for place in range(per_episode)]
    support, query = means[::2], means[1::2]
    return InnerCurveRecord(
        step=judgement.step,
        split=judgement.split,
        label=judgement.label,
        episodes=judgement.n_episodes,
        support_losses=tuple(m.loss for m in support),
        support_accuracies=_accuracies(support),
        query_losses=tuple(m.loss for m in query),
        query_losses_ci95=tuple(m.loss_ci95 for m in query),
        query_accuracies=_accuracies(query),
        query_accuracies_ci95=_accuracies(query, "accuracy_ci95"),
    )


def _accuracies(means: Sequence[Summary], name: str = "accuracy") -> tuple[float, ...] | None:
    found = [getattr(mean, name) for mean in means]
    return None if None in found else tuple(found)

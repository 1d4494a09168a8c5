"""Landmarks of a data set: how well simple learners do without training.

Source: Pfahringer et al. 2000, "Meta-learning by landmarking various learning algorithms", with
nearest prototypes (Mensink et al. 2013, doi:10.1109/TPAMI.2013.83) as the simple learner.
"""

import math
from collections.abc import Collection

import torch

from metafleet.describing.description import Landmark
from metafleet.describing.episodes import N_EPISODES, Sample
from metafleet.episode import META_TRAIN, Episode
from metafleet.learners.nearest_prototype import NearestPrototype
from metafleet.learners.protonet import ProtonetOptions
from metafleet.learners.summary import mean_and_half_width
from metafleet.models.registry import model_factory
from metafleet.params import MetaState
from metafleet.problem import Problem


def landmark(sample: Sample, inputs: str, modalities: Collection[str]) -> Landmark:
    """Return the mean result on a sample.

    Args:
        sample: the episodes.
        inputs: "raw" or "frozen".
        modalities: the modalities to read, at least one.
    """
    episodes = list(sample.episodes(modalities))
    if sample.shape.n_way:
        results, measure = _accuracies(sample, episodes), "accuracy"
    else:
        results, measure = [_explained(episode) for episode in episodes], "explained"
    mean, half_width = mean_and_half_width(results)
    return Landmark(
        inputs, measure, sample.shape.n_way, sample.shape.k_shot, N_EPISODES, mean, half_width
    )


def _accuracies(sample: Sample, episodes: list[Episode]) -> list[float]:
    """Return the accuracy of nearest prototypes in each episode."""
    first = episodes[0].support.inputs
    shapes = {name: tuple(x.shape[1:]) for name, x in first.items() if x.ndim > 1}
    problem = Problem(
        shapes, 0, {META_TRAIN: sample.shape}, texts=sample.source.texts & shapes.keys()
    )
    learner = NearestPrototype.build(
        ProtonetOptions(), problem, model_factory({"name": "raw"}, problem)
    )
    found = []
    for episode in episodes:
        accuracy = learner.evaluate(MetaState({}, {}), episode).accuracy
        assert accuracy is not None  # only regression has none
        found.append(accuracy)
    return found


def _explained(episode: Episode) -> float:
    """Return the share of the targets' variance that the nearest support point explains.

    The share is limited to [-1, 1]: it may be any negative number if the targets hardly vary.
    """
    known, asked = (
        torch.cat([x.flatten(1) for x in part.inputs.values()], dim=1)
        for part in (episode.support, episode.query)
    )
    guessed = episode.support.targets[torch.cdist(asked, known).argmin(dim=1)]
    targets = episode.query.targets
    variance = (targets - targets.mean(dim=0)).square().mean().item()
    error = (targets - guessed).square().mean().item()
    if variance == 0.0 or not math.isfinite(error):
        return 0.0
    return min(max(1 - error / variance, -1.0), 1.0)

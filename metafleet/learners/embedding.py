"""Embed an episode with the same batch norm for support and query set."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.models.base import Model
from metafleet.params import Params


def embed_episode(
    model: Model,
    params: Params,
    support: ExampleSet,
    inputs: Mapping[str, Tensor],
    context: EpisodeContext,
) -> tuple[Tensor, Tensor]:
    """Return the embeddings of the support set, [n_support, d], and of ``inputs``, [n, d].

    The support set and ``inputs`` are embedded in one batch, as in the code of Snell et al. 2017.
    Distances between their embeddings are meaningful only if both are normalised in the same way.
    With batch norm "support", the statistics of the support set normalise both.

    Args:
        model: a network without a head.
        params: the network's parameters.
        support: the support set.
        inputs: modality -> [n, ...].
        context: the episode's context.
    """
    norm = context.norm
    if norm.needs_support_pass:
        embedded_support = model.forward(params, support.inputs, norm.capture)
        return embedded_support, model.forward(params, inputs, norm.query)
    joint = {name: torch.cat([values, inputs[name]]) for name, values in support.inputs.items()}
    embedded = model.forward(params, joint, norm.query)
    return embedded[: len(support)], embedded[len(support) :]

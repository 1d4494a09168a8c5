"""Conditional neural processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.context import EpisodeContext
from metafleet.learners.neural_process import (
    gaussian,
    negative_log_likelihood,
)
from metafleet.learners.pairs import PairLearner
from metafleet.learners.prototypes import class_means, require_each_class
from metafleet.models.dense import dense, init_dense
from metafleet.models.init import AFTER_MODEL
from metafleet.options import require, require_layers
from metafleet.params import MetaState, Params


@dataclass(frozen=True, slots=True)
class CnpOptions:
    """Options of ``Cnp``.

    Attributes:
        hidden: units of each hidden layer and of the representation, >= 1.
        encoder_layers: number of linear layers of the encoder, >= 1.
        decoder_layers: number of linear layers of the decoder, >= 1.
    """

    hidden: int = 128
    encoder_layers: int = 3
    decoder_layers: int = 5

    def __post_init__(self) -> None:
        require(self.hidden >= 1, "hidden", self.hidden, "1 or more")
        require_layers("encoder_layers", self.encoder_layers)
        require_layers("decoder_layers", self.decoder_layers)


class Cnp(PairLearner[CnpOptions]):
    """Encode each support pair, average the codes, and decode each query with the average.

    Let h be the encoder and g the decoder. In regression, r is the mean of h([x_i, y_i]) over the
    support points i, and (mu, sigma) = g([x, r]). Training minimises -log N(y; mu, sigma), and the
    prediction is mu. In classification, r_k is the mean of h(x_i) over the support examples of
    class k, and the logits of a query x are g([x, r_1, ..., r_n]).

    Source: Garnelo et al. 2018, arXiv:1807.01613, eq. 1 to 4; classification in section 4.3;
    default sizes from section 4.1.
    """

    name: ClassVar[str] = "cnp"
    Options: ClassVar[type] = CnpOptions

    def init_state(self, seed: int) -> MetaState:
        """Draw the parameters of model, encoder and decoder."""
        n_x, n_y, n_hidden = self.n_inputs, self.n_targets, self.options.hidden
        n_decoded = 2 * n_y if self.is_regression else n_y
        n_encoder, n_decoder = self.options.encoder_layers, self.options.decoder_layers
        n_pair = n_x + n_y if self.is_regression else n_x
        n_read = n_hidden if self.is_regression else n_y * n_hidden
        encoder, decoder = [n_pair] + [n_hidden] * n_encoder, [n_x + n_read]
        decoder += [n_hidden] * (n_decoder - 1) + [n_decoded]
        params = self.model.init_params(seed)
        params |= init_dense(seed, AFTER_MODEL, "encoder", encoder)
        params |= init_dense(seed, AFTER_MODEL + 2 * n_encoder, "decoder", decoder)
        return MetaState(params, self.model.init_buffers())

    def check_support(self, support: ExampleSet, n_way: int) -> None:
        """Check that the support set has every class."""
        if not self.is_regression:
            require_each_class(support.targets, n_way)

    def objective(
        self, params: Params, support: ExampleSet, query: ExampleSet, context: EpisodeContext
    ) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood of the query set, and its means or logits."""
        decoded = self._decoded(params, support, query.inputs, context)
        if not self.is_regression:
            return self.loss(decoded, query.targets), decoded
        mean, spread = gaussian(decoded)
        return negative_log_likelihood(query.targets, mean, spread), mean

    def query_outputs(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Return means or logits."""
        decoded = self._decoded(params, support, inputs, context)
        return gaussian(decoded)[0] if self.is_regression else decoded

    def _decoded(
        self,
        params: Params,
        support: ExampleSet,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        known, targets, asked = self.embed(params, support, inputs, context)
        if self.is_regression:
            pairs = torch.cat([known, targets], dim=1)
            read = dense(params, "encoder", pairs).mean(dim=0)
        else:
            encoded = dense(params, "encoder", known)
            read = class_means(encoded, support.targets, self.n_targets).flatten()
        return dense(params, "decoder", torch.cat([asked, read.expand(len(asked), -1)], dim=1))

"""ANIL (almost no inner loop): only the head adapts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.context import EpisodeContext
from metafleet.learners.maml import MamlOptions, MamlSteps
from metafleet.params import Params

_FEATURES = "support features"


@dataclass(frozen=True, slots=True)
class AnilOptions(MamlOptions):
    """Options of ``Anil``: those of MAML, with the paper's defaults."""

    inner_lr: float = 0.1


class Anil(MamlSteps[AnilOptions]):
    """MAML whose body stays fixed in the inner loop, so that features are reused.

    With theta = (theta_1, ..., theta_l) by layer, the inner loop moves only the last layer, the
    head: theta_l <- theta_l - alpha * d L_S(theta_1, ..., theta_l) / d theta_l. The body does not
    change in the inner loop, so it processes the support set only once. The outer loop learns all
    layers. The features of the support set are kept among the fast parameters, and the
    meta-gradient flows through these features.

    Source: Raghu et al. 2020, arXiv:1909.09157, section 4.1; defaults from its Omniglot
    experiments.
    """

    name: ClassVar[str] = "anil"
    Options: ClassVar[type] = AnilOptions
    takes_several_labels: ClassVar[bool] = True
    takes_losses: ClassVar[bool] = True
    still: ClassVar[frozenset[str]] = frozenset({_FEATURES})

    def check_batch_norm(self, mode: str) -> None:
        """Reject batch norm mode "per_step", because the body takes no inner steps.

        Raises:
            ConfigError: the mode is "per_step".
        """
        if mode == "per_step":
            raise ConfigError(
                f"batch_norm={mode!r} but learner 'anil' normalises the support set once and not "
                "in each inner step; expected another mode, such as 'running'"
            )

    def adapting(self, params: Params) -> Params:
        """Return the parameters of the head."""
        return {name: params[name] for name in sorted(self.model.head & params.keys())}

    def start(self, params: Params, support: ExampleSet, context: EpisodeContext) -> Params:
        """Return the parameters of the head, and the features of the support set."""
        features = self.model.features(params, support.inputs, context.normalise)
        return self.adapting(params) | {_FEATURES: features}

    def support_loss(
        self, params: Params, fast: Params, support: ExampleSet, context: EpisodeContext
    ) -> Tensor:
        """Return the mean loss of the head on the support features."""
        return self.loss(self.model.apply_head(fast, fast[_FEATURES]), support.targets)

    def outputs(
        self,
        params: Params,
        fast: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Apply the body and the adapted head to the inputs."""
        features = self.model.features(params, inputs, context.normalise)
        return self.model.apply_head(fast, features)

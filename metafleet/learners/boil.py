"""BOIL: only the body adapts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.maml import MamlOptions, MamlSteps
from metafleet.params import Params


@dataclass(frozen=True, slots=True)
class BoilOptions(MamlOptions):
    """Options of ``Boil``: those of MAML, with the paper's defaults."""

    inner_lr: float = 0.5
    inner_steps: int = 1


class Boil(MamlSteps[BoilOptions]):
    """MAML whose head stays fixed in the inner loop, so that representations must change.

    Let theta_b be the parameters of the body and theta_h those of the head. The inner loop moves
    only the body: theta_b <- theta_b - alpha * d L_S(theta_b, theta_h) / d theta_b. The outer loop
    learns theta_b and theta_h.

    Source: Oh et al. 2021, arXiv:2008.08882, eq. 1 with alpha_h = 0; defaults from section 3.
    """

    name: ClassVar[str] = "boil"
    Options: ClassVar[type] = BoilOptions
    takes_several_labels: ClassVar[bool] = True
    takes_losses: ClassVar[bool] = True

    def adapting(self, params: Params) -> Params:
        """Return theta_b."""
        return {name: value for name, value in params.items() if name not in self.model.head}

    def outputs(
        self,
        params: Params,
        fast: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Apply the adapted body and theta_h to the inputs."""
        return self.model.forward({**params, **fast}, inputs, context.normalise)

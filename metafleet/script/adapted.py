"""A module that has adapted to a support set."""

from torch import Tensor, nn

from metafleet.learners.adaptation import Adaptation
from metafleet.models.module_model import PREFIX
from metafleet.script.plain_episode import Inputs, as_inputs
from metafleet.script.runtime import running


class Adapted:
    """A module that has adapted to a support set: call it with inputs.

    What is learned afterwards does not change it.

    Args:
        adaptation: the learner's.
        module: what runs; its submodules are in evaluation mode meanwhile.
        like: where inputs go, and their precision.

    Attributes:
        params: the adapted parameters of a learner with inner steps, by their names in the module,
            beside what else the learner adapts. Empty for learners that compare embeddings.
    """

    def __init__(self, adaptation: Adaptation, module: nn.Module, *, like: Tensor) -> None:
        self.params = {name.removeprefix(PREFIX): v for name, v in adaptation.fast.items()}
        self._predict = adaptation.predict
        self._module = module
        self._like = like

    def __call__(self, inputs: Inputs) -> Tensor:
        """Return logits [n, n_way], or the module's outputs, for inputs [n, ...].

        Raises:
            DataError: they are no tensors.
        """
        with running(self._module, is_training=False):
            return self._predict(as_inputs(inputs, self._like))

"""Batch norm in few-shot episodes. The mode decides which statistics a forward pass uses.

    mode            support set                       query set
    transductive    statistics of the support set     statistics of the query set
    support         statistics of the support set     statistics of the support set
    running         own statistics in meta-training, running averages in evaluation
    per_step        as mode "running", with separate averages for each inner step
    frozen          running averages                  running averages
    none            no normalisation                  no normalisation

In mode "transductive", predictions depend on the other queries. In mode "support", the query set is
normalised by the statistics of the support set in a forward pass with the adapted parameters, and
gradients flow through these statistics. If the whole support set lacks a modality, mode "support"
normalises the queries of this modality by their own statistics. In mode "running", "own" means the
support set for a support forward pass, and the query set for a query forward pass. In mode
"frozen", the running averages are constant during an outer step, also in meta-training.

Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1. Bronskill et al. 2020,
arXiv:2003.03284, section 3, compare the modes. Mode "per_step" is "BNRS" in section 4 of Antoniou
et al. 2019, arXiv:1810.09502.
"""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import DataError
from metafleet.params import Params

BatchNormMode = Literal["transductive", "support", "running", "per_step", "frozen", "none"]
MODES: tuple[BatchNormMode, ...] = (
    "transductive",
    "support",
    "running",
    "per_step",
    "frozen",
    "none",
)
AVERAGED = ("running", "per_step", "frozen")
"""Modes with running averages, which ``MetaState.buffers`` holds."""
EPSILON = 1e-5
MOMENTUM = 0.1


class Normalise(Protocol):
    """Normalise one layer's activations."""

    def __call__(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        """Normalise x [n, c, ...] over all dimensions but c; return it times scale, plus shift.

        Args:
            layer: name of the layer.
            x: activations.
            scale: [c].
            shift: [c].
            seen: a scalar tensor, or None. It is false if no example has the layer's modality. The
                statistics of x are then meaningless. None means that at least one example has the
                modality.
        """
        ...


class BatchStatistics:
    """Normalise by the batch's own mean and variance.

    This is a class rather than a function, so that a model can recognise instances and fuse the
    normalisation with the next operations. A model that fuses operations must call ``check`` and
    ``note`` itself.

    Args:
        note: a function that is called for each layer. Its arguments are the layer, the mean [c]
            and the unbiased variance [c] of the layer's inputs, and ``seen`` as in ``Normalise``.
            Mean and variance are detached from the autograd graph.
        is_traced: True inside ``vmap`` or a compiler, which forbid in-place writes.
        seen: default for the ``seen`` of calls; see ``Normalise``.
    """

    def __init__(
        self,
        note: Callable[[str, Tensor, Tensor, Tensor | None], None] | None = None,
        *,
        is_traced: bool = False,
        seen: Tensor | None = None,
    ) -> None:
        self._note = note
        self._is_traced = is_traced
        self._seen = seen

    def __call__(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        """See ``Normalise``."""
        self.check(layer, x)
        if self._note is None or self._is_traced:
            if self._note is not None:
                self.note(layer, *statistics_of(x), seen=seen)
            return F.batch_norm(x, None, None, scale, shift, True, 0.0, EPSILON)
        mean, variance = torch.zeros_like(scale), torch.zeros_like(scale)
        # with momentum 1, mean and variance become those of this batch
        y = F.batch_norm(x, mean, variance, scale, shift, True, 1.0, EPSILON)
        self.note(layer, mean, variance, seen=seen)
        return y

    def check(self, layer: str, x: Tensor) -> None:
        """Check that a batch has at least two values for each channel, so that it has statistics.

        Raises:
            DataError: the batch has only one value for each channel.
        """
        if x.numel() == x.shape[1]:
            raise DataError(
                f"batch norm of {layer!r} got 1 value for each channel and has no statistics of "
                "it; give more examples or choose batch_norm='running' or 'none'"
            )

    def note(
        self, layer: str, mean: Tensor, variance: Tensor, *, seen: Tensor | None = None
    ) -> None:
        """Report a layer's statistics to the callback; ``seen`` as in ``Normalise``."""
        if self._note is not None:
            self._note(layer, mean, variance, self._seen if seen is None else seen)

    def beneath(self, part: str, seen: Tensor | None) -> "BatchStatistics":
        """Return a copy for the layers of a part of the model; see the function ``beneath``."""
        note = self._note
        if note is None:
            return self
        return BatchStatistics(
            lambda layer, mean, variance, seen: note(f"{part}.{layer}", mean, variance, seen),
            is_traced=self._is_traced,
            seen=self._seen if seen is None else seen,
        )


OWN_BATCH = BatchStatistics()
"""Normalises by the batch's own statistics, without reporting them."""


def beneath(norm: Normalise, part: str, seen: Tensor | None = None) -> Normalise:
    """Return the batch norm of a part of a model. It calls ``norm`` with the name "<part>.<layer>".

    Args:
        norm: batch norm of the whole model.
        part: name of the part.
        seen: a scalar tensor, or None. It is false if no example has the part's modality. None
            means that at least one example has the modality.
    """
    if isinstance(norm, BatchStatistics):
        return norm.beneath(part, seen)
    own = seen

    def normalise(
        layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        return norm(f"{part}.{layer}", x, scale, shift, seen=own if seen is None else seen)

    return normalise


def initial_buffers(mode: str, layers: Mapping[str, int]) -> Params:
    """Return mean 0 and variance 1 for each layer. For a mode without averages, return nothing.

    The names of the buffers are "<layer>.mean" and "<layer>.variance".
    """
    if mode not in AVERAGED:
        return {}
    means = {f"{layer}.mean": torch.zeros(channels) for layer, channels in layers.items()}
    return means | {f"{layer}.variance": torch.ones(channels) for layer, channels in layers.items()}


def average_buffers(
    buffers: Mapping[str, Tensor],
    sums: Mapping[str, Tensor],
    *,
    n_episodes: int,
    momentum: float = MOMENTUM,
) -> Params:
    """Move running statistics towards a step's mean: (1 - momentum) * buffer + momentum * mean.

    Args:
        buffers: ``MetaState.buffers`` before the step.
        sums: ``MetaGradient.buffers`` summed over the step's episodes.
        n_episodes: number of episodes in ``sums``.
        momentum: weight of the new statistics, in (0, 1].
    """
    return {
        name: (1.0 - momentum) * value + momentum * (sums[name] / n_episodes)
        for name, value in buffers.items()
    }


def statistics_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and unbiased variance [c] of x [n, c, ...], detached from the graph."""
    variance, mean = torch.var_mean(x.detach(), all_but_channels(x), correction=1)
    return mean, variance


def all_but_channels(x: Tensor) -> list[int]:
    """Return the dimensions over which statistics of x [n, c, ...] are computed."""
    return [d for d in range(x.dim()) if d != 1]

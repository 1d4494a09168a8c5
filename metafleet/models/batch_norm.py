"""Batch norm in few-shot episodes: whose statistics normalise whom, as an explicit option.

    mode            support forward        query forward
    transductive    its own batch's        its own batch's: predictions depend on the query batch
    support         its own batch's        the adapted support forward's, differentiated through
    running         own / running          own in meta-training, running averages in evaluation
    none            no normalisation       no normalisation

Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1; the modes are told apart in
Bronskill et al. 2020, arXiv:2003.03284, section 3.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import DataError
from metafleet.params import Params

BatchNormMode = Literal["transductive", "support", "running", "none"]
MODES: tuple[BatchNormMode, ...] = ("transductive", "support", "running", "none")
EPSILON = 1e-5
MOMENTUM = 0.1


class Normalise(Protocol):
    """Normalise one layer's activations."""

    def __call__(self, layer: str, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return x [n, c, ...] normalised over all but c, times scale [c], plus shift [c]."""
        ...


class EpisodeNorm:
    """The batch norm of one episode: hands out what normalises each forward pass.

    Args:
        mode: one of ``MODES``.
        buffers: running statistics; read in evaluation when mode is "running".
        is_training: True in meta-training.

    Not thread-safe; make one for each episode.
    """

    def __init__(self, mode: str, buffers: Mapping[str, Tensor], *, is_training: bool) -> None:
        self._mode = mode
        self._buffers = buffers
        self._is_training = is_training
        self._support: dict[str, tuple[Tensor, Tensor]] = {}
        self._sums: Params = {}
        self._passes: dict[str, int] = {}

    @property
    def needs_support_pass(self) -> bool:
        """True when ``query`` needs a forward pass of the support set with ``capture`` before."""
        return self._mode == "support"

    @property
    def support(self) -> Normalise:
        """What normalises a support set's forward pass."""
        if self._mode == "running":
            return self._record if self._is_training else self._use_running
        return _use_batch

    @property
    def capture(self) -> Normalise:
        """What normalises the support set and keeps its statistics for ``query``."""
        return self._capture

    @property
    def query(self) -> Normalise:
        """What normalises the query set's forward pass."""
        return self._use_support if self._mode == "support" else self.support

    def statistics(self) -> Params:
        """Return the mean of the statistics seen over this episode's forward passes."""
        return {name: total / self._passes[name] for name, total in self._sums.items()}

    def _capture(self, layer: str, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        _refuse_single(layer, x)
        dims = [d for d in range(x.dim()) if d != 1]
        variance, mean = torch.var_mean(x, dims, correction=0)
        self._support[layer] = (mean, variance)
        return _affine(x, mean, variance, scale, shift)

    def _use_support(self, layer: str, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        mean, variance = self._support[layer]
        return _affine(x, mean, variance, scale, shift)

    def _record(self, layer: str, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        _refuse_single(layer, x)
        mean, variance = torch.zeros_like(scale), torch.zeros_like(scale)
        # momentum 1: what comes back in mean and variance is this batch's alone
        y = F.batch_norm(x, mean, variance, scale, shift, True, 1.0, EPSILON)
        for name, value in ((f"{layer}.mean", mean), (f"{layer}.variance", variance)):
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._passes[name] = self._passes.get(name, 0) + 1
        return y

    def _use_running(self, layer: str, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        mean, variance = self._buffers[f"{layer}.mean"], self._buffers[f"{layer}.variance"]
        return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, EPSILON)


def initial_buffers(mode: str, layers: Mapping[str, int]) -> Params:
    """Return mean 0 and variance 1 for each layer of so many channels; nothing without "running".

    Names are "<layer>.mean" and "<layer>.variance".
    """
    if mode != "running":
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
        n_episodes: how many episodes ``sums`` adds up.
        momentum: weight of the new statistics, in (0, 1].
    """
    return {
        name: (1.0 - momentum) * value + momentum * (sums[name] / n_episodes)
        for name, value in buffers.items()
    }


def _use_batch(layer: str, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    _refuse_single(layer, x)
    return F.batch_norm(x, None, None, scale, shift, True, 0.0, EPSILON)


def _affine(x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    per_channel = (1, -1) + (1,) * (x.dim() - 2)
    factor = scale * torch.rsqrt(variance + EPSILON)
    return x * factor.view(per_channel) + (shift - mean * factor).view(per_channel)


def _refuse_single(layer: str, x: Tensor) -> None:
    if x.numel() == x.shape[1]:
        raise DataError(
            f"batch norm of {layer!r} got 1 value for each channel and has no statistics of it; "
            "give more examples or choose batch_norm='running' or 'none'"
        )

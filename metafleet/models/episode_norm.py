"""The batch norm of one episode: provides the ``Normalise`` of each forward pass."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.models.batch_norm import (
    AVERAGED,
    EPSILON,
    OWN_BATCH,
    BatchStatistics,
    Normalise,
    all_but_channels,
    statistics_of,
)
from metafleet.models.notes import Notes
from metafleet.params import Params

_UNKNOWN = -1.0
"""Marks the variance of a layer whose modality no support example has."""

STATISTICS = "statistics"
"""The group in ``Adaptation.memory`` that holds what ``EpisodeNorm.captured`` returns."""


def unknown_layers(captured: Mapping[str, Tensor]) -> list[str]:
    """Return the layers whose modality no support example had."""
    ends = ".variance"
    return [
        name.removesuffix(ends)
        for name, value in captured.items()
        if name.endswith(ends) and bool((value < 0).any())
    ]


class EpisodeNorm:
    """The batch norm of one episode: provides the ``Normalise`` of each forward pass.

    Args:
        mode: one of ``MODES``.
        buffers: running statistics, [c], or [inner steps, c] for "per_step".
        is_training: True in meta-training.
        notes: the notes that record the statistics; None for new notes.
        is_traced: True inside ``vmap`` or a compiler, which forbid in-place writes.

    Attributes:
        step: the current inner step, from 0. If "per_step" has no row of averages for this step, it
            uses its last row.

    An instance is not thread-safe. Make one instance for each episode.
    """

    def __init__(
        self,
        mode: str,
        buffers: Mapping[str, Tensor],
        *,
        is_training: bool,
        notes: Notes | None = None,
        is_traced: bool = False,
    ) -> None:
        self._mode = mode
        self._buffers = buffers
        self._is_training = is_training
        self._is_traced = is_traced
        self._notes = Notes() if notes is None else notes
        self._support: dict[str, tuple[Tensor, Tensor]] = {}
        self._perhaps_unknown: set[str] = set()
        self.step = 0

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The state's running averages; a learner may keep some of its own among them."""
        return self._buffers

    @property
    def needs_support_pass(self) -> bool:
        """Whether ``query`` needs an earlier forward pass of the support set with ``capture``."""
        return self._mode == "support"

    @property
    def support(self) -> Normalise:
        """The batch norm of a support set's forward pass."""
        if self._mode not in AVERAGED:
            return OWN_BATCH
        if not self._is_training:
            return self._use_running
        if self._mode == "frozen":
            return self._record_only
        return BatchStatistics(self._note, is_traced=self._is_traced)

    @property
    def capture(self) -> Normalise:
        """The batch norm that normalises the support set and keeps its statistics for ``query``."""
        return self._capture

    @property
    def query(self) -> Normalise:
        """The batch norm of the query set's forward pass."""
        return self._use_support if self._mode == "support" else self.support

    def captured(self) -> Params:
        """Return the captured statistics: "<layer>.mean" and "<layer>.variance", [c] each."""
        means = {f"{layer}.mean": mean for layer, (mean, _) in self._support.items()}
        return means | {f"{layer}.variance": value for layer, (_, value) in self._support.items()}

    def recall(self, captured: Mapping[str, Tensor]) -> None:
        """Make ``query`` use what ``captured`` returned, instead of a support forward pass."""
        layers = [name.removesuffix(".mean") for name in captured if name.endswith(".mean")]
        self._perhaps_unknown = set(layers)
        self._support = {n: (captured[f"{n}.mean"], captured[f"{n}.variance"]) for n in layers}

    def statistics(self) -> Params:
        """Return the mean of the statistics recorded in this episode's forward passes.

        If a layer or inner step had no forward pass, its current running averages are returned.
        """
        if not self._is_training or self._mode not in AVERAGED:
            return {}
        if self._mode != "per_step":
            return {name: self._seen(name, value) for name, value in self._buffers.items()}
        return {
            name: torch.stack([self._seen(f"{name}@{i}", row) for i, row in enumerate(rows)])
            for name, rows in self._buffers.items()
        }

    def _seen(self, key: str, otherwise: Tensor) -> Tensor:
        values = self._notes.values(key)
        return sum(values[1:], start=values[0]) / len(values) if values else otherwise

    def _row(self, name: str) -> int:
        return min(self.step, len(self._buffers[name]) - 1)

    def _capture(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        OWN_BATCH.check(layer, x)
        variance, mean = torch.var_mean(x, all_but_channels(x), correction=0)
        self._support[layer] = (mean, variance)
        if seen is not None:
            self._support[layer] = (mean, torch.where(seen, variance, _UNKNOWN))
            self._perhaps_unknown.add(layer)
        return _affine(x, mean, variance, scale, shift)

    def _use_support(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        if layer not in self._support:  # the support set lacks the layer's modality
            return OWN_BATCH(layer, x, scale, shift)
        mean, variance = self._support[layer]
        if layer in self._perhaps_unknown:
            OWN_BATCH.check(layer, x)
            own_variance, own_mean = torch.var_mean(x, all_but_channels(x), correction=0)
            is_known = variance >= 0
            mean = torch.where(is_known, mean, own_mean)
            variance = torch.where(is_known, variance, own_variance)
        return _affine(x, mean, variance, scale, shift)

    def _record_only(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        OWN_BATCH.check(layer, x)
        self._note(layer, *statistics_of(x), seen)
        return self._use_running(layer, x, scale, shift)

    def _note(self, layer: str, mean: Tensor, variance: Tensor, seen: Tensor | None) -> None:
        for name, value in ((f"{layer}.mean", mean), (f"{layer}.variance", variance)):
            key = f"{name}@{self._row(name)}" if self._mode == "per_step" else name
            self._notes.add(key, value if seen is None else self._unless(seen, name, value))

    def _unless(self, seen: Tensor, name: str, value: Tensor) -> Tensor:
        """Return ``value``, or the current averages if no example had the modality."""
        kept = self._buffers[name]
        return torch.where(seen, value, kept[self._row(name)] if self._mode == "per_step" else kept)

    def _use_running(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        mean, variance = self._buffers[f"{layer}.mean"], self._buffers[f"{layer}.variance"]
        if self._mode == "per_step":
            row = self._row(f"{layer}.mean")
            mean, variance = mean[row], variance[row]
        return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, EPSILON)


def _affine(x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    per_channel = (1, -1) + (1,) * (x.dim() - 2)
    factor = scale * torch.rsqrt(variance + EPSILON)
    return x * factor.view(per_channel) + (shift - mean * factor).view(per_channel)

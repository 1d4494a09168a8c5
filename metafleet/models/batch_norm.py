"""Batch norm in few-shot episodes: whose statistics normalise whom, as an explicit option.

    mode            support forward        query forward
    transductive    its own batch's        its own batch's: predictions depend on the query batch
    support         its own batch's        the adapted support forward's, differentiated through;
                                           its own of a modality that the whole support set lacks
    running         own / running          own in meta-training, running averages in evaluation
    per_step        as running, with averages of their own for each inner step
    frozen          running                running, in meta-training too: constants of an outer step
    none            no normalisation       no normalisation

Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1; the modes are told apart in
Bronskill et al. 2020, arXiv:2003.03284, section 3; per step in Antoniou et al. 2019,
arXiv:1810.09502, section 4, "BNRS".
"""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import DataError
from metafleet.notes import Notes
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
"""Modes with running averages, kept in ``MetaState.buffers``."""
EPSILON = 1e-5
MOMENTUM = 0.1
_UNKNOWN = -1.0
"""Stands for the variance of a support set in which nobody has what a layer looks at."""


class Normalise(Protocol):
    """Normalise one layer's activations."""

    def __call__(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        """Return x [n, c, ...] normalised over all but c, times scale [c], plus shift [c].

        Args:
            layer: its name.
            x: activations.
            scale: [c].
            shift: [c].
            seen: a scalar, false where no example has what the layer looks at, so that the
                statistics of x mean nothing; None: some example has.
        """
        ...


class BatchStatistics:
    """Normalise by the batch's own mean and variance.

    A class of its own so that a model can see that this is asked for, and join the normalising with
    what it does next; then it calls ``check`` and ``note`` itself.

    Args:
        note: told of each layer's mean [c] and unbiased variance [c], which are not to be
            differentiated, and of ``seen`` as in ``Normalise``.
        is_traced: True inside ``vmap`` or a compiler, which forbid writing in place.
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
                self.note(layer, *_statistics(x), seen=seen)
            return F.batch_norm(x, None, None, scale, shift, True, 0.0, EPSILON)
        mean, variance = torch.zeros_like(scale), torch.zeros_like(scale)
        # momentum 1: what comes back in mean and variance is this batch's alone
        y = F.batch_norm(x, mean, variance, scale, shift, True, 1.0, EPSILON)
        self.note(layer, mean, variance, seen=seen)
        return y

    def check(self, layer: str, x: Tensor) -> None:
        """Refuse a batch that has no statistics.

        Raises:
            DataError: a single value for each channel.
        """
        if x.numel() == x.shape[1]:
            raise DataError(
                f"batch norm of {layer!r} got 1 value for each channel and has no statistics of "
                "it; give more examples or choose batch_norm='running' or 'none'"
            )

    def note(
        self, layer: str, mean: Tensor, variance: Tensor, *, seen: Tensor | None = None
    ) -> None:
        """Tell whoever keeps statistics; ``seen`` as in ``Normalise``."""
        if self._note is not None:
            self._note(layer, mean, variance, self._seen if seen is None else seen)

    def beneath(self, part: str, seen: Tensor | None) -> "BatchStatistics":
        """Return the same for layers of a part of the model; see the function ``beneath``."""
        note = self._note
        if note is None:
            return self
        return BatchStatistics(
            lambda layer, mean, variance, seen: note(f"{part}.{layer}", mean, variance, seen),
            is_traced=self._is_traced,
            seen=self._seen if seen is None else seen,
        )


_OWN_BATCH = BatchStatistics()


class EpisodeNorm:
    """The batch norm of one episode: hands out what normalises each forward pass.

    Args:
        mode: one of ``MODES``.
        buffers: running statistics, [c], or [inner steps, c] for "per_step".
        is_training: True in meta-training.
        notes: where statistics are noted; a recorder of its own without.
        is_traced: True inside ``vmap`` or a compiler, which forbid writing in place.

    Attributes:
        step: inner step at hand, from 0; "per_step" takes the last one's averages beyond it.

    Not thread-safe; make one for each episode.
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
    def needs_support_pass(self) -> bool:
        """True when ``query`` needs a forward pass of the support set with ``capture`` before."""
        return self._mode == "support"

    @property
    def support(self) -> Normalise:
        """What normalises a support set's forward pass."""
        if self._mode not in AVERAGED:
            return _OWN_BATCH
        if not self._is_training:
            return self._use_running
        if self._mode == "frozen":
            return self._record_only
        return BatchStatistics(self._note, is_traced=self._is_traced)

    @property
    def capture(self) -> Normalise:
        """What normalises the support set and keeps its statistics for ``query``."""
        return self._capture

    @property
    def query(self) -> Normalise:
        """What normalises the query set's forward pass."""
        return self._use_support if self._mode == "support" else self.support

    def captured(self) -> Params:
        """Return what ``capture`` kept: "<layer>.mean" and "<layer>.variance", [c] each."""
        means = {f"{layer}.mean": mean for layer, (mean, _) in self._support.items()}
        return means | {f"{layer}.variance": value for layer, (_, value) in self._support.items()}

    def recall(self, captured: Mapping[str, Tensor]) -> None:
        """Give ``query`` what ``captured`` returned, in place of a support set's forward pass."""
        layers = [name.removesuffix(".mean") for name in captured if name.endswith(".mean")]
        self._perhaps_unknown = set(layers)
        self._support = {n: (captured[f"{n}.mean"], captured[f"{n}.variance"]) for n in layers}

    def statistics(self) -> Params:
        """Return the mean of the statistics seen over this episode's forward passes.

        Of a layer or inner step without a forward pass, the averages there are.
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
        _OWN_BATCH.check(layer, x)
        variance, mean = torch.var_mean(x, _all_but_channels(x), correction=0)
        self._support[layer] = (mean, variance)
        if seen is not None:
            self._support[layer] = (mean, torch.where(seen, variance, _UNKNOWN))
            self._perhaps_unknown.add(layer)
        return _affine(x, mean, variance, scale, shift)

    def _use_support(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        if layer not in self._support:  # the support set came without what it looks at
            return _OWN_BATCH(layer, x, scale, shift)
        mean, variance = self._support[layer]
        if layer in self._perhaps_unknown:
            _OWN_BATCH.check(layer, x)
            own_variance, own_mean = torch.var_mean(x, _all_but_channels(x), correction=0)
            is_known = variance >= 0
            mean = torch.where(is_known, mean, own_mean)
            variance = torch.where(is_known, variance, own_variance)
        return _affine(x, mean, variance, scale, shift)

    def _record_only(
        self, layer: str, x: Tensor, scale: Tensor, shift: Tensor, /, *, seen: Tensor | None = None
    ) -> Tensor:
        _OWN_BATCH.check(layer, x)
        self._note(layer, *_statistics(x), seen)
        return self._use_running(layer, x, scale, shift)

    def _note(self, layer: str, mean: Tensor, variance: Tensor, seen: Tensor | None) -> None:
        for name, value in ((f"{layer}.mean", mean), (f"{layer}.variance", variance)):
            key = f"{name}@{self._row(name)}" if self._mode == "per_step" else name
            self._notes.add(key, value if seen is None else self._unless(seen, name, value))

    def _unless(self, seen: Tensor, name: str, value: Tensor) -> Tensor:
        """Return the averages there are in place of the statistics of nobody."""
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


def beneath(norm: Normalise, part: str, seen: Tensor | None = None) -> Normalise:
    """Return what normalises a part of a model, whose layers are "<part>.<layer>" to ``norm``.

    Args:
        norm: of the whole.
        part: its name.
        seen: a scalar, false where no example has what the part looks at; None: some has.
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
    """Return mean 0 and variance 1 for each layer of so many channels, for modes that average.

    Names are "<layer>.mean" and "<layer>.variance".
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
        n_episodes: how many episodes ``sums`` adds up.
        momentum: weight of the new statistics, in (0, 1].
    """
    return {
        name: (1.0 - momentum) * value + momentum * (sums[name] / n_episodes)
        for name, value in buffers.items()
    }


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and unbiased variance [c] of x [n, c, ...], not to be differentiated."""
    variance, mean = torch.var_mean(x.detach(), _all_but_channels(x), correction=1)
    return mean, variance


def _all_but_channels(x: Tensor) -> list[int]:
    return [d for d in range(x.dim()) if d != 1]


def _affine(x: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    per_channel = (1, -1) + (1,) * (x.dim() - 2)
    factor = scale * torch.rsqrt(variance + EPSILON)
    return x * factor.view(per_channel) + (shift - mean * factor).view(per_channel)

"""Methods that fuse the vectors of several modalities. An example may lack some modalities.

For each modality, every method takes vectors z_m [n, dim] and a mask [n] of the examples that have
the modality. The vector of an absent modality has no effect.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.init import fan_in_uniform
from metafleet.params import Params

Vectors = Mapping[str, Tensor]
"""Modality -> [n, dim], or a mask [n]."""
_FLOOR = 1e-6


class Fuse(Protocol):
    """Fuses the vectors of several modalities into one."""

    @property
    def n_features(self) -> int:
        """Length of the fused vector."""
        ...

    def init(self, seed: int, index: int) -> Params:
        """Draw parameters; ``index`` is the index of the first one in the model."""
        ...

    def __call__(self, params: Mapping[str, Tensor], vectors: Vectors, masks: Vectors) -> Tensor:
        """Return the fused vectors, [n, n_features]."""
        ...


class Concatenate:
    """Return [s_1 z_1, s_2 z_2, ...] with a learned scale s_m per modality.

    The vectors z_m have length 1. Modality m adds s_m^2 |z_m - c_m|^2 to the squared distance to a
    prototype c. Up to constants, minus this distance is a sum of log-likelihoods with a separate
    temperature for each modality. Training can therefore reduce the weight of a poor modality. An
    absent z_m is replaced by the mean of learned linear maps of the present vectors. A query with
    only a sound can therefore be compared to a support example with only an image.

    Source: log-linear pooling, Heskes 1998, eq. 4; reconstruction of missing modalities similar to
    Ma et al. 2021, arXiv:2103.05677, section 3.2.
    """

    def __init__(self, modalities: tuple[str, ...], *, dim: int, scale: float) -> None:
        self._modalities, self._dim, self._scale = modalities, dim, scale

    @property
    def n_features(self) -> int:
        """Length of the concatenated vectors."""
        return self._dim * len(self._modalities)

    def init(self, seed: int, index: int) -> Params:
        """Draw the maps between modalities, and set the scales."""
        params: Params = {}
        for to in self._modalities:
            params[f"fuse.{to}.log_scale"] = torch.tensor([math.log(self._scale)])
            for source in self._modalities:
                if source != to:
                    weight = fan_in_uniform(seed, index, (self._dim, self._dim), fan_in=self._dim)
                    params[f"fuse.{to}.from.{source}"] = weight
                    index += 1
        return params

    def __call__(self, params: Mapping[str, Tensor], vectors: Vectors, masks: Vectors) -> Tensor:
        """Concatenate the scaled vectors, with absent ones reconstructed."""
        own = {name: F.normalize(vectors[name], dim=1) for name in self._modalities}
        parts = []
        for name in self._modalities:
            mask = masks[name][:, None]
            vector = mask * own[name] + (1.0 - mask) * self._reconstruct(params, name, own, masks)
            parts.append(params[f"fuse.{name}.log_scale"].exp() * vector)
        return torch.cat(parts, dim=1)

    def _reconstruct(
        self, params: Mapping[str, Tensor], name: str, own: Vectors, masks: Vectors
    ) -> Tensor:
        others = [other for other in self._modalities if other != name]
        guess = torch.zeros_like(own[name])
        for other in others:
            mapped = own[other] @ params[f"fuse.{name}.from.{other}"].T
            guess = guess + masks[other][:, None] * mapped
        # zero if no modality is present; the floor avoids a division by zero
        return guess / (guess.square().sum(dim=1, keepdim=True) + _FLOOR).sqrt()


class Gate:
    """Return sum_m g_m * tanh(z_m), with element-wise gates g_m in (0, 1).

    Over the present modalities, the gates are a softmax of linear functions of z_m, so they sum to
    1. Suppose that support examples have an image and a text, and that queries have only an image.
    The mean over the support examples of a class is then the prototype of AM3 (Xing et al. 2019), a
    convex combination of image and text features.

    Source: Arevalo et al. 2017, arXiv:1702.01992, section 3.1, with a softmax instead of a sigmoid,
    for more than two modalities; Xing et al. 2019, arXiv:1902.07104, eq. 4 to 6.
    """

    def __init__(self, modalities: tuple[str, ...], *, dim: int, scale: float) -> None:
        self._modalities, self._dim, self._scale = modalities, dim, scale

    @property
    def n_features(self) -> int:
        """Length of the fused vector."""
        return self._dim

    def init(self, seed: int, index: int) -> Params:
        """Draw a linear gate for each modality, and set the scale."""
        params = {"fuse.log_scale": torch.tensor([math.log(self._scale)])}
        for i, name in enumerate(self._modalities):
            shape = (self._dim, self._dim)
            weight = fan_in_uniform(seed, index + i, shape, fan_in=self._dim)
            params[f"fuse.{name}.gate.weight"] = weight
            params[f"fuse.{name}.gate.bias"] = weight.new_zeros(self._dim)
        return params

    def __call__(self, params: Mapping[str, Tensor], vectors: Vectors, masks: Vectors) -> Tensor:
        """Return the gated sum."""
        hidden = torch.stack([torch.tanh(vectors[name]) for name in self._modalities])
        scores = [
            F.linear(
                vectors[name],
                params[f"fuse.{name}.gate.weight"],
                params[f"fuse.{name}.gate.bias"],
            )
            for name in self._modalities
        ]
        gates = masked_softmax(torch.stack(scores), _stack(masks, self._modalities)[:, :, None])
        return params["fuse.log_scale"].exp() * (gates * hidden).sum(dim=0)


class Attend:
    """A learned query attends to the present modalities with several heads.

    Each modality is a token z_m + e_m with learned e_m. The attention output is added to the mean
    of the tokens. A residual layer follows.

    Source: pooling by attention, Lee et al. 2019, arXiv:1810.00825, eq. 11, with one seed.
    """

    n_heads: ClassVar[int] = 4

    def __init__(self, modalities: tuple[str, ...], *, dim: int, scale: float) -> None:
        self._modalities, self._dim, self._scale = modalities, dim, scale

    @property
    def n_features(self) -> int:
        """Length of the fused vector."""
        return self._dim

    def init(self, seed: int, index: int) -> Params:
        """Draw tokens, keys, values and the last layer."""
        dim, n = self._dim, len(self._modalities)
        shapes = {
            "kind": (n, dim),
            "seed": (1, dim),
            "key": (dim, dim),
            "value": (dim, dim),
            "out": (dim, dim),
        }
        params = {
            f"fuse.{part}": fan_in_uniform(seed, index + i, shape, fan_in=dim)
            for i, (part, shape) in enumerate(shapes.items())
        }
        return params | {"fuse.log_scale": torch.tensor([math.log(self._scale)])}

    def __call__(self, params: Mapping[str, Tensor], vectors: Vectors, masks: Vectors) -> Tensor:
        """Return the fused vectors, [n, dim]."""
        tokens = torch.stack([vectors[name] for name in self._modalities], dim=1)  # [n, m, dim]
        tokens = tokens + params["fuse.kind"]
        mask = _stack(masks, self._modalities).T[:, :, None]  # [n, m, 1]
        heads = (tokens.shape[0], len(self._modalities), self.n_heads, -1)
        keys = (tokens @ params["fuse.key"].T).reshape(heads)
        values = (tokens @ params["fuse.value"].T).reshape(heads)
        query = params["fuse.seed"].reshape(1, 1, self.n_heads, -1)
        scores = (keys * query).sum(dim=3) / math.sqrt(keys.shape[3])  # [n, m, heads]
        weights = masked_softmax(scores.transpose(0, 1), mask.transpose(0, 1)).transpose(0, 1)
        read = (weights[:, :, :, None] * values).sum(dim=1).flatten(1)
        mean = (mask * tokens).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        pooled = mean + read
        return params["fuse.log_scale"].exp() * (pooled + F.relu(pooled @ params["fuse.out"].T))


class MultiplyExperts:
    """Return the mean of a product of Gaussians: sum_m l_m mu_m / (1 + sum_m l_m).

    Each modality gives a mean mu_m and an element-wise precision l_m > 0. In the denominator, 1 is
    the precision of a standard normal prior. If no modality is present, the result is the prior's
    mean, 0.

    Source: Wu and Goodman 2018, arXiv:1802.05335, section 2.2; Hinton 2002 introduced products of
    experts.
    """

    def __init__(self, modalities: tuple[str, ...], *, dim: int, scale: float) -> None:
        self._modalities, self._dim, self._scale = modalities, dim, scale

    @property
    def n_features(self) -> int:
        """Length of the fused vector."""
        return self._dim

    def init(self, seed: int, index: int) -> Params:
        """Draw a linear map to log-precisions for each modality, and set the scale."""
        params = {"fuse.log_scale": torch.tensor([math.log(self._scale)])}
        for i, name in enumerate(self._modalities):
            shape = (self._dim, self._dim)
            weight = fan_in_uniform(seed, index + i, shape, fan_in=self._dim)
            params[f"fuse.{name}.precision.weight"] = weight
            params[f"fuse.{name}.precision.bias"] = weight.new_zeros(self._dim)
        return params

    def __call__(self, params: Mapping[str, Tensor], vectors: Vectors, masks: Vectors) -> Tensor:
        """Return the posterior mean."""
        first = vectors[self._modalities[0]]
        weighted, total = torch.zeros_like(first), torch.ones_like(first)
        for name in self._modalities:
            own = f"fuse.{name}.precision"
            score = F.linear(vectors[name], params[f"{own}.weight"], params[f"{own}.bias"])
            precision = masks[name][:, None] * F.softplus(score)
            weighted = weighted + precision * vectors[name]
            total = total + precision
        return params["fuse.log_scale"].exp() * (weighted / total)


class Join:
    """Return [z_1, z_2, ...], with zeros for an absent modality. Nothing is mapped or learned.

    A squared distance is the sum of the squared distances of the modalities. If an encoder's
    outputs have a fixed norm, as those of ``adapter`` have the norm ``length``, the weight of its
    modality in this sum is the square of the norm. If a query lacks such a modality, the modality
    adds the same amount to the query's squared distances to all examples that have it.

    Args:
        sizes: modality -> length of its vector.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = dict(sizes)

    @property
    def n_features(self) -> int:
        """Length of the joined vectors."""
        return sum(self._sizes.values())

    def init(self, seed: int, index: int) -> Params:
        """Return no parameters."""
        return {}

    def __call__(self, params: Mapping[str, Tensor], vectors: Vectors, masks: Vectors) -> Tensor:
        """Join the vectors."""
        return torch.cat([masks[name][:, None] * vectors[name] for name in self._sizes], dim=1)


class Mean:
    """Return the mean of the present vectors. The encoders must share one space.

    Args:
        sizes: modality -> length of its vector. All lengths must be equal.

    Raises:
        ConfigError: the lengths differ.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        if len(set(sizes.values())) != 1:
            found = ", ".join(f"{name!r} has {size}" for name, size in sizes.items())
            raise ConfigError(
                f"method='mean' needs encoders with equally many features, but {found}; choose "
                "another method, such as 'gated', which maps them to vectors of one length"
            )
        self._sizes = dict(sizes)

    @property
    def n_features(self) -> int:
        """Length of the vectors."""
        return next(iter(self._sizes.values()))

    def init(self, seed: int, index: int) -> Params:
        """Return no parameters."""
        return {}

    def __call__(self, params: Mapping[str, Tensor], vectors: Vectors, masks: Vectors) -> Tensor:
        """Return the mean; zeros if no modality is present."""
        total = torch.stack([masks[name][:, None] * vectors[name] for name in self._sizes]).sum(
            dim=0
        )
        n_present = _stack(masks, tuple(self._sizes)).sum(dim=0)
        return total / n_present.clamp(min=1.0)[:, None]


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the first axis where ``mask`` is 1, and 0 elsewhere.

    Args:
        scores: [m, ...].
        mask: 1 or 0, broadcastable to the shape of ``scores``.
    """
    # a large negative number instead of -inf, with which a fully masked column would be NaN
    weights = torch.softmax(scores + (mask - 1.0) * 1e9, dim=0)
    return weights * mask


def _stack(masks: Vectors, modalities: tuple[str, ...]) -> Tensor:
    return torch.stack([masks[name] for name in modalities])

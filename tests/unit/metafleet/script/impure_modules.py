"""Modules whose forward pass is no function of parameters and inputs alone; double precision."""

import random
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = Callable[[], nn.Module]
WIDTH = 6


class Net(nn.Module):
    """Vectors [n, 5] to 3 logits, through one layer that is impure."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(5, WIDTH)
        self.layer = layer
        self.last = nn.Linear(WIDTH, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.layer(self.first(x))))


class Calling(nn.Module):
    """Calls a function in meta-training."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.training else x


class Owning(nn.Module):
    """Draws from generators of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.torch = torch.Generator().manual_seed(5)
        self.several = {"numpy": np.random.default_rng(6), "python": random.Random(7)}

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=self.torch, dtype=x.dtype)
        more = torch.from_numpy(self.several["numpy"].standard_normal(tuple(x.shape)))
        return x + 0.3 * noise + 0.3 * more.to(x) * self.several["python"].random()


class Average(nn.Module):
    """Subtracts a moving average of what it has seen.

    Args:
        way: "in place", "rebound", "linked" (rebound, and not detached), "written" (in place, and
            not detached) or "attribute" (a tensor that is no buffer).
    """

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        if way == "attribute":
            self.mean = torch.zeros(WIDTH, dtype=torch.float64)
        else:
            self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        seen = x.mean(dim=0) if self.way in ("linked", "written") else x.mean(dim=0).detach()
        out = x - self.mean
        if self.way == "in place":
            self.mean.mul_(0.7).add_(0.3 * seen)
        elif self.way == "written":
            self.mean.add_(0.3 * (seen - self.mean.clone()))
        else:
            self.mean = 0.7 * self.mean + 0.3 * seen
        return out


class Annealed(nn.Module):
    """Scales by a count of its calls, kept in a buffer and in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.n_calls += 1
        return x * (1.0 + 0.1 * self.calls) * 1.1**self.n_calls


class Remembering(nn.Module):
    """Adds what it saw first, which is remembered with its record, and later seen in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.memory:
            self.memory.append(x.mean(dim=0))
        return x + self.memory[0]


class Holding(nn.Module):
    """Returns its inputs; holds a tensor in a buffer and in an attribute, and never changes it.

    Args:
        matrix: of any layout.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.parts = {"matrix": matrix.clone()}
        self.gap, self.gaps = float("nan"), np.full(2, np.nan)

    def forward(self, x: Tensor) -> Tensor:
        self.gap = float("nan")  # another object with the same value
        return x.clone()


class Recurrent(nn.Module):
    """An LSTM with dropout between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.LSTM(1, WIDTH, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x[..., None])[0][:, -1]


class Attentive(nn.Module):
    """Attention with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.MultiheadAttention(WIDTH, 2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, None] + torch.arange(3.0)[None, :, None]
        return self.inside(rows, rows, rows)[0].mean(dim=1)


def _depth(x: Tensor) -> Tensor:
    return x * (torch.rand(len(x), 1) > 0.5)


def _numpy(x: Tensor) -> Tensor:
    return x + 0.3 * torch.from_numpy(np.random.standard_normal(tuple(x.shape))).to(x)


DRAWING: dict[str, Layer] = {
    "nn.Dropout": lambda: nn.Dropout(0.5),
    "F.dropout": lambda: Calling(lambda x: F.dropout(x, 0.5)),
    "AlphaDropout": lambda: nn.AlphaDropout(0.3),
    "RReLU": nn.RReLU,
    "LSTM": Recurrent,
    "attention": Attentive,
    "stochastic depth": lambda: Calling(_depth),
    "torch noise": lambda: Calling(lambda x: x + 0.3 * torch.randn_like(x)),
    "NumPy noise": lambda: Calling(_numpy),
    "Python's random": lambda: Calling(lambda x: x * random.random()),
    "own generators": Owning,
}
CHANGING: dict[str, Layer] = {
    "old spectral_norm": lambda: nn.utils.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    "average in place": lambda: Average("in place"),
    "average rebound": lambda: Average("rebound"),
    "average linked": lambda: Average("linked"),
    "average written": lambda: Average("written"),
    "average attribute": lambda: Average("attribute"),
    "annealed": Annealed,
    "remembering": Remembering,
}
HARMLESS: dict[str, Layer] = {
    "old weight_norm": lambda: nn.utils.weight_norm(nn.Linear(WIDTH, WIDTH)),
}


def impure(layer: Layer) -> nn.Module:
    """Make a module; the same each time."""
    torch.manual_seed(11)
    return Net(layer())

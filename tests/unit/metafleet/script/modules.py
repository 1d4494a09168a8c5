"""Small modules and episodes for tests of ``MetaLearner``."""

import torch
from torch import Tensor, nn

Plain = tuple[Tensor, Tensor, Tensor, Tensor]
N_WAY = 3


def conv_net(*, eps: float = 1e-5, momentum: float | None = 0.1, dropout: float = 0.0) -> nn.Module:
    """Two convolutions with batch norm and a linear head, submodule "9"."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4, eps=eps, momentum=momentum),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.BatchNorm2d(4, eps=eps, momentum=momentum),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(36, N_WAY),
    )


def dense_net(n_outputs: int = N_WAY) -> nn.Module:
    """Two linear layers, submodules "0" and "2"; double precision."""
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, n_outputs)).double()


class Tied(nn.Module):
    """Encodes and decodes with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(5, 5, bias=False)
        self.decode = nn.Linear(5, 5, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(torch.tanh(self.encode(x)))


def image_episode(seed: int = 0, n_way: int = N_WAY) -> Plain:
    """Images [n, 2, 6, 6] of classes that differ in mean."""
    return _classes(seed, (2, 6, 6), n_way)


def vector_episode(seed: int = 0, n_way: int = N_WAY) -> Plain:
    """Vectors [n, 5] of classes that differ in mean."""
    return _classes(seed, (5,), n_way)


def value_episode(seed: int = 0) -> Plain:
    """Noisy values [n, 2] of a random linear map of vectors [n, 5]."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(5, 2, generator=generator)
    xs = [torch.randn(n, 5, generator=generator) for n in (6, 7)]
    noise = [0.1 * torch.randn(len(x), 2, generator=generator) for x in xs]
    return xs[0], xs[0] @ matrix + noise[0], xs[1], xs[1] @ matrix + noise[1]


def _classes(seed: int, shape: tuple[int, ...], n_way: int) -> Plain:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(n_way, *shape, generator=generator)

    def examples(per_class: int) -> tuple[Tensor, Tensor]:
        targets = torch.arange(n_way).repeat_interleave(per_class)
        noise = torch.randn(len(targets), *shape, generator=generator)
        return means[targets] + noise, targets

    return (*examples(2), *examples(3))


Batch = tuple[Tensor, Tensor]


def batches(n: int, seed: int = 0) -> list[Batch]:
    """Batches of 8 vectors with 3 classes, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    found = []
    for _ in range(n):
        y = torch.randint(0, 3, (8,), generator=generator)
        noise = torch.randn(8, 5, generator=generator, dtype=torch.float64)
        found.append((means[y] + noise, y))
    return found

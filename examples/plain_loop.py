"""Meta-train your own network in a plain loop, without a fleet or servers.

    python examples/plain_loop.py --steps 500

An episode gives five points of a sine wave; the network adapts to them in a few gradient steps.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from metafleet import MetaLearner

Episode = tuple[Tensor, Tensor, Tensor, Tensor]


class SineNet(nn.Module):
    """Two hidden layers of 40 units."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(1, 40), nn.Linear(40, 40), nn.Linear(40, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [n, 1] to y [n, 1]."""
        y: Tensor = self.last(torch.relu(self.second(torch.relu(self.first(x)))))
        return y


def draw_episode(generator: torch.Generator) -> Episode:
    """Draw a wave with five support and ten query points."""
    amplitude, phase = torch.rand(2, generator=generator)
    x = 10.0 * torch.rand(15, 1, generator=generator) - 5.0
    y = (0.1 + 4.9 * amplitude) * torch.sin(x + math.pi * phase)
    return x[:5], y[:5], x[5:], y[5:]


def main() -> None:
    """Meta-train, evaluate on new waves, save."""
    parser = argparse.ArgumentParser(description="MAML on sine waves")
    parser.add_argument("--steps", type=int, default=500, help="outer steps")
    parser.add_argument("--save", type=Path, help="file to save the result to")
    options = parser.parse_args()

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    module = SineNet()
    meta = MetaLearner(module, "maml", inner_lr=0.01, inner_steps=5, outer_lr=3e-3)

    new = [draw_episode(torch.Generator().manual_seed(1000 + i)) for i in range(100)]
    print(f"before: {meta.evaluate(new).loss:.2f}")
    for step in range(1, options.steps + 1):
        report = meta.optimize(draw_episode(generator) for _ in range(8))
        if step % 100 == 0:
            print(f"step {step}: loss {report.loss:.2f}, |gradient| {report.grad_norm:.2f}")
    judged = meta.evaluate(new)
    print(f"after: {judged.loss:.2f} +- {judged.loss_ci95:.2f}")

    support_x, support_y, query_x, _ = new[0]
    predict = meta.adapt((support_x, support_y))
    print(f"a new wave at {query_x[0].item():.2f}: {predict(query_x)[0].item():.2f}")
    if options.save is not None:
        meta.save(options.save)


if __name__ == "__main__":
    main()

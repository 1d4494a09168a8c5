"""A damped pendulum: angle'' = -(g / length) sin(angle) - damping angle'."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet import ConfigError, CounterRng, EpisodeShape

GRAVITY_M_S2 = 9.81
STEP_S = 0.02
"""Time step of the integration, and between possible observations."""


@dataclass(frozen=True)
class PendulumOptions:
    """Options of ``Pendulum``; all ranges are uniform.

    Attributes:
        length_min_m, length_max_m: length of a pendulum; 0 < min <= max.
        damping_min_hz, damping_max_hz: damping of a pendulum; 0 <= min <= max.
        start_max_rad: the starting angle lies between half of this and this; in (0, pi).
        seen_s: the support set is observed in the first ``seen_s`` seconds.
        later_s: the query set is observed in the ``later_s`` seconds after that.
        noise_std_rad: standard deviation of the noise on the support's angles, >= 0.
    """

    length_min_m: float = 0.5
    length_max_m: float = 2.0
    damping_min_hz: float = 0.05
    damping_max_hz: float = 0.5
    start_max_rad: float = 1.5
    seen_s: float = 2.0
    later_s: float = 1.0
    noise_std_rad: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.length_min_m <= self.length_max_m:
            raise ConfigError(
                f"length_min_m={self.length_min_m}; expected more than 0, and length_max_m or less"
            )
        if not 0 <= self.damping_min_hz <= self.damping_max_hz:
            raise ConfigError(
                f"damping_min_hz={self.damping_min_hz}; expected 0 or more, and at most "
                "damping_max_hz"
            )
        if not 0 < self.start_max_rad < math.pi:
            raise ConfigError(f"start_max_rad={self.start_max_rad}; expected between 0 and pi")
        for name in ("seen_s", "later_s"):
            if not STEP_S <= getattr(self, name) <= 60:
                raise ConfigError(f"{name}={getattr(self, name)}; expected {STEP_S} to 60")
        if self.noise_std_rad < 0:
            raise ConfigError(f"noise_std_rad={self.noise_std_rad}; expected 0 or more")


class Pendulum:
    """Each episode is one pendulum: predict its angle later from a few observations.

    Args:
        options: ranges of the pendulums' properties.
    """

    Options = PendulumOptions
    version = "1"
    modalities: ClassVar[dict[str, tuple[int, ...]]] = {"time_s": (1,)}
    target_dim = 1

    def __init__(self, options: PendulumOptions) -> None:
        self.options = options
        self.n_seen = round(options.seen_s / STEP_S)
        self.n_later = round(options.later_s / STEP_S)

    def draw(
        self, rng: CounterRng, shape: EpisodeShape, split: str
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Draw a pendulum, swing it, and observe it k_shot times early and n_query times later."""
        options = self.options
        angles = swing(
            length_m=between(rng, options.length_min_m, options.length_max_m),
            damping_hz=between(rng, options.damping_min_hz, options.damping_max_hz),
            start_rad=between(rng, options.start_max_rad / 2, options.start_max_rad),
            n_steps=self.n_seen + self.n_later,
        )
        seen = [rng.integer(self.n_seen) for _ in range(shape.k_shot)]
        noise = [options.noise_std_rad * rng.normal() for _ in seen]
        later = [self.n_seen + 1 + rng.integer(self.n_later) for _ in range(shape.n_query)]
        observed = [angles[step] + error for step, error in zip(seen, noise, strict=True)]
        return (
            (column([step * STEP_S for step in seen]), column(observed)),
            (column([step * STEP_S for step in later]), column([angles[step] for step in later])),
        )


def swing(*, length_m: float, damping_hz: float, start_rad: float, n_steps: int) -> list[float]:
    """Return the angle, in radians, at each step from rest at ``start_rad``.

    Source: the classical Runge-Kutta method of fourth order.
    """

    def acceleration(angle: float, speed: float) -> float:
        return -GRAVITY_M_S2 / length_m * math.sin(angle) - damping_hz * speed

    angle, speed, h = start_rad, 0.0, STEP_S
    angles = [angle]
    for _ in range(n_steps):
        v1, a1 = speed, acceleration(angle, speed)
        v2, a2 = speed + h / 2 * a1, acceleration(angle + h / 2 * v1, speed + h / 2 * a1)
        v3, a3 = speed + h / 2 * a2, acceleration(angle + h / 2 * v2, speed + h / 2 * a2)
        v4, a4 = speed + h * a3, acceleration(angle + h * v3, speed + h * a3)
        angle += h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        speed += h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
        angles.append(angle)
    return angles


def between(rng: CounterRng, low: float, high: float) -> float:
    """Draw one number uniformly from [low, high)."""
    return low + (high - low) * rng.uniform()


def column(values: list[float]) -> Tensor:
    """Return float32 [n, 1]."""
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1)

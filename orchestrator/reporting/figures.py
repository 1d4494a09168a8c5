"""Formats figures for users."""

import itertools
import math
from collections.abc import Sequence

_LABELS = {
    "trained": "meta-trained",
    "initialisation": "without meta-training",
    "nearest_prototype": "nearest raw prototype",
}

_UNITS = ("kB", "MB", "GB", "TB")
_BARS = "▁▂▃▄▅▆▇█"


def contender(label: str) -> str:
    """Describe an evaluation's contender and episodes: "meta-trained, k_shot=5"."""
    what, comma, episodes = label.partition(", ")
    return f"{_LABELS.get(what, what)}{comma}{episodes}"


def percent(share: float | None, ci95: float | None = None) -> str:
    """Format a share in [0, 1] and the half width of its 95 % interval: "98.12 ± 0.31 %"."""
    if share is None:
        return "-"
    if ci95 is None:
        return f"{100 * share:.2f} %"
    return f"{100 * share:.2f} ± {100 * ci95:.2f} %"


def plus_minus(value: float, ci95: float) -> str:
    """Format a value with the half width of its 95 % interval."""
    return f"{value:.4f} ± {ci95:.4f}"


def figure(value: float, ci95: float | None, *, is_share: bool) -> str:
    """Format a share like ``percent``, or another value like ``plus_minus``."""
    if is_share:
        return percent(value, ci95)
    return f"{value:.4f}" if ci95 is None else plus_minus(value, ci95)


def counted(n: int, noun: str) -> str:
    """Format a count with its noun: "1 worker", "2 workers"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def speed(episodes_per_s: float) -> str:
    """Format a speed with at least two digits: "0.83 episodes/s", "3.1 episodes/s", "120 ..."."""
    digits = 0 if episodes_per_s >= 9.95 else 1 if episodes_per_s >= 0.995 else 2
    return f"{episodes_per_s:.{digits}f} episodes/s"


def byte_count(n_bytes: int) -> str:
    """Format a size: "512 bytes", "1.5 MB", "2.0 GB"."""
    if n_bytes < 1000:
        return counted(n_bytes, "byte")
    power = min(len(_UNITS), int(math.log10(n_bytes) / 3 + 1e-9))
    return f"{n_bytes / 1000**power:.1f} {_UNITS[power - 1]}"


def duration(seconds: float) -> str:
    """Format seconds: "4.2 s", "3 min 07 s", "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Draw values as at most ``width`` bars, each the mean of consecutive values."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return ""
    n_bars = min(width, len(finite))
    edges = [round(i * len(finite) / n_bars) for i in range(n_bars + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)

"""Pen sequences: the path of a pen resampled to a fixed number of points, 64 by default.

A stroke sequence is [64, 3]. The first two columns are x and y in the canvas's unit square, with y
pointing down. The third column is 1 at the last point of each stroke. The last point of a drawing
always ends a stroke, so if the third column has no 1, the item has no strokes. The sequence of such
an item is all zeros (``has_strokes``).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor  # decoding processes start faster without torch

N_POINTS = 64
MAX_STROKES = 16
Points = npt.NDArray[np.float64]
Strokes = npt.NDArray[Any]


def has_strokes(strokes: "Tensor") -> "Tensor":
    """Return which sequences of [..., 64, 3] have strokes: bool [...]."""
    return strokes[..., 2].amax(dim=-1) > 0


def resample(polylines: Sequence[Points], n_points: int = N_POINTS) -> npt.NDArray[np.float32]:
    """Spread ``n_points`` points over polylines [n, 2] by arc length, in drawing order.

    Every stroke keeps its first and its last point. At most ``MAX_STROKES`` strokes, and at most
    ``n_points / 2`` strokes, are kept: the longest ones. A stroke of length 0 gets two equal
    points.
    """
    max_strokes = min(MAX_STROKES, n_points // 2)
    lengths = [_arc(line) for line in polylines]
    totals = np.round([arc[-1] for arc in lengths], 9)  # equal contours must tie on all machines
    kept = sorted(np.argsort(-totals, kind="stable")[:max_strokes].tolist())
    counts = _share(totals[kept], n_points)
    sequence = np.zeros((n_points, 3), np.float32)
    end = 0
    for index, count in zip(kept, counts, strict=True):
        start, end = end, end + count
        along = lengths[index][-1] * (np.arange(count) / (count - 1))
        sequence[start:end, 0] = np.interp(along, lengths[index], polylines[index][:, 0])
        sequence[start:end, 1] = np.interp(along, lengths[index], polylines[index][:, 1])
        sequence[end - 1, 2] = 1.0
    return sequence


def rotate(strokes: Strokes, quarter_turns: int) -> Strokes:
    """Rotate sequences [..., 3] counter-clockwise about the canvas's centre, like ``np.rot90``.

    Missing sequences, which are all zeros, are not changed.
    """
    x, y, pen = strokes[..., 0], strokes[..., 1], strokes[..., 2]
    for _ in range(quarter_turns % 4):
        x, y = y, 1 - x
    turned = np.stack([x, y, pen], axis=-1).astype(strokes.dtype)
    missing = ~strokes[..., 2].any(axis=-1)
    turned[missing] = 0
    return turned


def _arc(line: Points) -> Points:
    steps = np.diff(line, axis=0)
    return np.concatenate([[0.0], np.cumsum(np.sqrt((steps * steps).sum(axis=1)))])


def _share(totals: Points, n_points: int) -> list[int]:
    """Return the number of points of each stroke: 2, plus a share of the rest by its length."""
    free = n_points - 2 * len(totals)
    whole = float(totals.sum())
    ideal = totals * (free / whole) if whole > 0 else np.full(len(totals), free / len(totals))
    extra = np.floor(ideal).astype(int)
    order = np.argsort(-(np.round(ideal - extra, 6)), kind="stable")
    extra[order[: free - int(extra.sum())]] += 1
    return [2 + int(count) for count in extra]

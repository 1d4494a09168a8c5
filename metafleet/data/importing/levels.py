"""Report the grey levels lost when pictures of more than 8 bits were reduced to 8."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metafleet.data.decoding.columns import Decoded
from metafleet.data.decoding.depth import (
    DTYPE_SPAN,
    Range,
    deep_values,
    has_deep_colours,
    is_deep,
    to_eight_bits,
)
from metafleet.data.decoding.image import MAY_BE_DEEP, TIFF
from metafleet.data.decoding.raster import opened
from metafleet.data.decoding.registry import get_decoder
from metafleet.data.importing.item import Item
from metafleet.data.importing.part import Part
from metafleet.errors import DecodeError

_ENOUGH = 64
"""With fewer levels, a picture more likely has a badly chosen range than few grey values."""
_BLACK, _WHITE = 0, 255


@dataclass(frozen=True, slots=True)
class _Loss:
    """The grey levels that one picture lost.

    Attributes:
        where: file of the picture.
        low, high: smallest and largest value of the picture.
        n_levels, n_kept: number of different values before and after the conversion. ``n_levels``
            is 0 if Pillow had already dropped the lower 8 of 16 bits.
        n_cut: number of pixels that were clipped to the range given for the import.
    """

    where: str
    low: float
    high: float
    n_levels: int
    n_kept: int
    n_cut: int = 0


def say_lost_levels(
    items: Sequence[Item],
    rows: Sequence[int],
    decoded: Decoded,
    kinds: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    advice: str,
) -> list[str]:
    """Return notes with the numbers of pictures that kept few of their levels or were clipped.

    Args:
        items: the decoded items.
        rows: the indices of the items to check.
        decoded: pixels of the items.
        kinds: modality -> kind.
        options: modality -> its decoder's options.
        advice: text that says what the user can do. "{kind}" in it is replaced by the short name of
            the kind.
    """
    notes: list[str] = []
    for modality, kind in kinds.items():
        decoder, chosen = get_decoder(kind), getattr(options[modality], "range", None)
        if not decoder.is_picture or chosen is None:
            continue
        losses = list(_losses(items, rows, decoded, modality, chosen))
        notes += _say_few([x for x in losses if x.n_kept < min(_ENOUGH, x.n_levels)], modality)
        notes += _say_cut([x for x in losses if x.n_cut], modality, chosen)
        notes = [f"{note}; {advice.format(kind=decoder.short_name)}" for note in notes]
        notes += _say_halved([x for x in losses if not x.n_levels], modality)
    return notes


def _say_few(few: Sequence[_Loss], modality: str) -> Iterator[str]:
    if few:
        worst = min(few, key=lambda loss: loss.n_kept / loss.n_levels)
        yield (
            f"{len(few)} of {modality!r} keep few of their grey levels, such as {worst.n_kept} of "
            f"{worst.n_levels} in {worst.where}, of values {worst.low:g} to {worst.high:g}"
        )


def _say_cut(cut: Sequence[_Loss], modality: str, chosen: Range) -> Iterator[str]:
    if cut:
        low, high = chosen if isinstance(chosen, tuple) else DTYPE_SPAN
        yield (
            f"{len(cut)} of {modality!r} have values beyond {low:g} to {high:g}, which were cut "
            f"off: they go from {min(x.low for x in cut):g} to {max(x.high for x in cut):g}"
        )


def _say_halved(halved: Sequence[_Loss], modality: str) -> Iterator[str]:
    if halved:
        yield (
            f"{len(halved)} of {modality!r}, such as {halved[0].where}, have 16 bits a colour, of "
            f"which the upper 8 are read: {halved[0].n_kept} levels are left there; save them with "
            "8 bits that use the whole range"
        )


def _losses(
    items: Sequence[Item], rows: Sequence[int], decoded: Decoded, modality: str, chosen: Range
) -> Iterator[_Loss]:
    """Read again the pictures whose pixels make a loss likely, and yield the losses."""
    pixels = decoded.arrays.get(modality)
    if pixels is None:
        return
    for row in rows:
        part = items[row].parts.get(modality)
        if part is None or not part.name.lower().endswith(MAY_BE_DEEP):
            continue
        counts = np.bincount(pixels[row].reshape(-1), minlength=_WHITE + 1)
        n_kept = int(np.count_nonzero(counts))
        # only TIFF has integers of more than 16 bits
        may_be_cut = chosen != "dtype" or part.name.lower().endswith(TIFF)
        if n_kept < _ENOUGH or (may_be_cut and (counts[_BLACK] or counts[_WHITE])):
            yield from _loss(part, n_kept, chosen)


def _loss(part: Part, n_pixels: int, chosen: Range) -> Iterator[_Loss]:
    with contextlib.suppress(DecodeError), opened(part.read()) as image:
        if has_deep_colours(image):
            yield _Loss(part.name, 0, 0, n_levels=0, n_kept=n_pixels)
        if not is_deep(image):
            return
        values = deep_values(image)
        low, high = values.min().item(), values.max().item()
        ends = DTYPE_SPAN if chosen == "dtype" else chosen
        n_cut = 0
        if isinstance(ends, tuple):
            n_cut = int(((values < ends[0]) | (values > ends[1])).sum())
        n_kept = len(np.unique(to_eight_bits(values, chosen)))
        yield _Loss(part.name, low, high, len(np.unique(values)), n_kept, n_cut)

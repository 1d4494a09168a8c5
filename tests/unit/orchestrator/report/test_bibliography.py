"""Every paper that a learner's docstring names has a BibTeX entry."""

import re

from metafleet.learners.registry import LEARNERS
from metafleet.orchestrator.report.bibliography import cite, entries, sources_in


def test_every_source_of_a_learner_has_an_entry() -> None:
    for name, learner in LEARNERS.items():
        sources = sources_in(learner.__doc__ or "")
        missing = [source for source in sources if source not in entries()]
        assert not missing, f"{name}: add {missing} to orchestrator/report/methods.bib"


def test_learners_name_a_source_at_all() -> None:
    without = {name for name, it in LEARNERS.items() if not sources_in(it.__doc__ or "")}
    assert without <= {"sklearn_head", "cosine_prototypes", "ridge", "logistic"}


def test_entries_have_own_keys_and_closed_braces() -> None:
    found = list(entries().values())
    keys = [re.match(r"@\w+\{(\w+),", entry) for entry in found]
    assert all(keys) and len({key[1] for key in keys if key}) == len(found)
    assert all(entry.count("{") == entry.count("}") for entry in found)


def test_a_run_cites_its_learner_its_optimiser_and_its_baselines() -> None:
    config = {"learner": {"name": "maml"}, "outer": {"optimiser": "adam"}}
    text = "\n".join(cite([config], ["nearest_prototype"], []))
    assert "finn2017maml" in text and "kingma2015adam" in text and "mensink2013ncm" in text


def test_a_learner_that_is_not_known_here_cites_nothing() -> None:
    assert cite([{"learner": {"name": "package.module:Class"}}], [], []) == []


def test_an_unknown_paper_is_cited_by_its_number() -> None:
    assert sources_in("see arXiv:2501.01234, eq. 3") == ["2501.01234"]
    assert sources_in("doi:10.1109/TPAMI.2013.83, eq. 1") == ["10.1109/TPAMI.2013.83"]

"""How to repeat the runs of a report: commands, versions and digests."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from metafleet.db.records import RunStatus
from metafleet.orchestrator.records.difference import difference, shipped_config
from metafleet.orchestrator.report.facts import GroupFacts, ReportFacts
from metafleet.orchestrator.report.tables import ReportTable

_COMPUTED: Final = ("sinusoid", "function_families", "glyphs", "mixture", "functions", "folder")
"""Data sets that nothing prepares before a run."""


def commands(group: GroupFacts) -> list[str]:
    """Return the commands that run a group again."""
    run = group.views[0].run
    seeds = ",".join(str(view.run.seed) for view in group.views)
    found = []
    data = str(run.config.get("data", {}).get("name", ""))
    if data.isidentifier() and data not in _COMPUTED:
        found.append(f"metafleet data prepare {data}")
    shipped = shipped_config(run.experiment)
    if shipped is None:
        found.append(f"metafleet submit experiment-{group.letter}.toml --seeds {seeds}")
        return found
    changes = [
        change
        for change in difference(shipped, run.config)
        if change.key != "seed" and change.after is not None
    ]
    sets = [f"--set {shlex.quote(f'{change.key}={_toml(change.after)}')}" for change in changes]
    words = [f"metafleet submit {shlex.quote(run.experiment)}", f"--seeds {seeds}", *sets]
    if run.name != run.experiment:
        words.append(f"--name {shlex.quote(run.name)}")
    found.append(" \\\n    ".join(words))
    return found


def config_toml(config: Mapping[str, Any]) -> str:
    """Return the configuration of a run as a TOML file."""
    from metafleet.inference.card.text import to_toml  # noqa: PLC0415 - imports the learning core

    return to_toml(_without_none({key: it for key, it in config.items() if key != "seed"}))


def digests_table(facts: ReportFacts) -> ReportTable:
    """Return the digests of each run."""
    rows = [
        (
            group.title,
            str(view.run.seed),
            view.run.uid,
            view.run.data_digest or "-",
            view.run.checkpoint_sha256 or "-",
        )
        for group in facts.groups
        for view in group.views
    ]
    return ReportTable(
        "digests",
        "The digest of the data, and of the final state and optimiser. Equal digests mean equal "
        "bits.",
        ("runs", "seed", "uid", "data", "checkpoint sha256"),
        tuple(rows),
        frozenset({1}),
    )


def versions(groups: Sequence[GroupFacts]) -> list[str]:
    """Return the versions of the code and the packages that computed the runs, each once."""
    found: dict[str, None] = {}
    for group in groups:
        for view in group.views:
            packages = ", ".join(f"{n} {v}" for n, v in view.run.package_versions.items())
            code = f"metafleet {view.run.code_version}"
            found[f"{code}; {packages}" if packages else code] = None
    return list(found)


def encoders(groups: Sequence[GroupFacts]) -> list[str]:
    """Return the pretrained encoders of the runs, with the sha256 of their files."""
    found: dict[str, None] = {}
    for group in groups:
        for modality, identity in (group.views[0].run.encoders or {}).items():
            files = ", ".join(
                f"{name} sha256 {digest}" for name, digest in identity.get("weights", {}).items()
            )
            found[f"{modality}: {identity.get('name', '?')}; {files}"] = None
    return list(found)


def rows_of(group: GroupFacts) -> dict[str, str]:
    """Return file name -> content of the files for `metafleet reproduce`, of finished runs."""
    # imported here: it imports the learning core
    from metafleet.errors import ConfigError  # noqa: PLC0415
    from metafleet.orchestrator.ledger.row import LedgerRow  # noqa: PLC0415

    found = {}
    for view in group.views:
        if view.run.status is not RunStatus.FINISHED:
            continue
        try:
            row = LedgerRow.of(view.run, view.evaluations)
        except ConfigError:  # no meta-test: nothing that could be compared
            continue
        found[f"run-{view.run.uid}.json"] = row.to_text()
    return found


def _toml(value: Any) -> str:
    if isinstance(value, str) and value.isidentifier():
        return value
    return json.dumps(value, ensure_ascii=False)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(it) for key, it in value.items() if it is not None}
    if isinstance(value, list | tuple):
        return [_without_none(it) for it in value]
    return value

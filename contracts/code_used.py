"""The code that computes a run in addition to Metafleet's: user packages and libraries."""

from collections.abc import Iterator, Mapping
from typing import Any

from metafleet.contracts.fingerprint import LIBRARY, PACKAGE
from metafleet.learners.registry import LEARNERS
from metafleet.sources import imported_digest, libraries_of, note_import, package_of, versions_of
from metafleet.workload_spec import WorkloadSpec


def describe_code(spec: WorkloadSpec) -> dict[str, str]:
    """Return the part of this process's fingerprint that depends on the run.

    The value of a key like "package mine" is a digest of the imported sources. The value of a key
    like "library scipy" is a version. There is a "library" key for each library that an imported
    package uses, and for each library with which a built-in learner computes. If the packages are
    already imported, the call is cheap.
    """
    found: dict[str, str] = {}
    for package in sorted(set(_packages(spec.to_json()))):
        note_import(package)  # if it is not imported yet: what an import would load now
        found[PACKAGE + package] = imported_digest(package)
        found |= {LIBRARY + name: version for name, version in libraries_of(package).items()}
    built_in = LEARNERS.get(str(spec.learner.get("name")))
    modules = getattr(built_in, "libraries", ())
    return found | {LIBRARY + name: version for name, version in versions_of(modules).items()}


def _packages(value: Any) -> Iterator[str]:
    """Yield the package of each class named as "package.module:Class" in a JSON value."""
    if isinstance(value, Mapping):
        name = value.get("name")
        if isinstance(name, str) and ":" in name:
            yield package_of(name)
        for item in value.values():
            yield from _packages(item)
    elif isinstance(value, list | tuple):  # the components of a mixture
        for item in value:
            yield from _packages(item)

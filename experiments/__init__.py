"""Ready-made experiment configurations, installed with the packages."""

import difflib
from pathlib import Path

from metafleet.errors import ConfigError

FOLDER = Path(__file__).parent


def find_experiment(wanted: Path) -> Path:
    """Resolve a path to a file, or the bare name of a ready-made experiment, such as "demo".

    "experiments/demo.toml", the form in the documentation, also means the ready-made one unless
    such a file exists.

    Raises:
        ConfigError: neither exists; the message lists the ready-made experiments.
    """
    ready = FOLDER.parent / wanted
    if ready.parent == FOLDER and ready.is_file() and not wanted.exists():
        return ready
    if wanted.suffix or wanted.parent != Path() or wanted.exists():
        return wanted
    names = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if wanted.name in names:
        return FOLDER / f"{wanted.name}.toml"
    near = difflib.get_close_matches(wanted.name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected a file, or {', '.join(names)}"
    raise ConfigError(f"there is no experiment {wanted.name!r}; {hint}")

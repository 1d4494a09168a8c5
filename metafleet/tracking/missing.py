"""The error about a library that is not installed."""

from metafleet.errors import ConfigError


def missing(program: str, extra: str, error: ImportError) -> ConfigError:
    """Return the error for a program whose library cannot be imported."""
    return ConfigError(f"{program} needs a library ({error}); pip install 'metafleet[{extra}]'")

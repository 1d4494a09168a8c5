"""Loads the Lua scripts, which Redis runs atomically, from the folder ``lua``."""

import functools
from importlib.resources import files
from typing import Final

_FOLDER: Final = files("metafleet.contracts") / "lua"


@functools.cache
def lua_script(*names: str, **constants: int) -> str:
    """Return one script, concatenated from files.

    Args:
        names: names of the files without ".lua": helper functions first, the program last.
        constants: numbers that the files use under these names.
    """
    defined = [f"local {name} = {value}\n" for name, value in constants.items()]
    return "".join([*defined, *((_FOLDER / f"{name}.lua").read_text("utf-8") for name in names)])

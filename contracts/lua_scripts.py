"""Loads the Lua scripts, which Redis runs atomically, from the folder ``lua``."""

import functools
from importlib.resources import files
from typing import Final

_FOLDER: Final = files("metafleet.contracts") / "lua"


@functools.cache
def lua_script(*names: str, **constants: int) -> str:
    """Return a script that consists of several files.

    Args:
        names: names of the files without ".lua". Files of helper functions come first, and the
            program comes last.
        constants: name -> number, for constants that the files use.
    """
    defined = [f"local {name} = {value}\n" for name, value in constants.items()]
    return "".join([*defined, *((_FOLDER / f"{name}.lua").read_text("utf-8") for name in names)])

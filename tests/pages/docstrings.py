"""What docstrings say about options, as Markdown."""

import inspect
import re
from collections.abc import Iterator, Sequence


def meanings_of(cls: type) -> dict[str, str]:
    """Return attribute -> meaning, from the docstrings of the class and of its bases.

    Several attributes that share an entry each have its text.
    """
    found: dict[str, str] = {}
    for part in reversed(cls.__mro__):
        _, _, attributes = inspect.cleandoc(part.__doc__ or "").partition("Attributes:\n")
        section, _, _ = attributes.partition("\n\n")
        for entry in re.split(r"\n(?=    \w)", f"\n{section}"):
            names, _, text = entry.strip().partition(": ")
            found |= dict.fromkeys(names.split(", "), markdown(text))
    return found


def markdown(text: str) -> str:
    """Return one line of Markdown for a table's cell; texts in quotes become code,
    names of pages links.
    """
    one_line = " ".join(text.split()).replace("``", "`").replace("|", "\\|")
    pieces = one_line.split("`")  # every other one is code
    pieces[::2] = [re.sub(r'"[^"\s]*"', r"`\g<0>`", piece) for piece in pieces[::2]]
    return re.sub(
        r"docs/((?:[\w-]+/)+)([\w-]+)(\.md[\w#-]*)",
        lambda page: f"[{page[2].replace('-', ' ')}](../{page[1]}{page[2]}{page[3]})",
        "`".join(pieces),
    )


def first_line(cls: type) -> str:
    """Return the first line of a class's docstring."""
    return markdown((inspect.getdoc(cls) or "").partition("\n")[0])


def table(*header: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one."""
    for row in (header, ("---",) * len(header), *rows):
        yield "| " + " | ".join(row) + " |"
    yield ""

"""Contact sheets, drawn when a browser asks for them, and kept in memory."""

import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from metafleet.errors import DataError

if TYPE_CHECKING:
    from metafleet.data.prepared.class_data import ClassData

_MOST_KEPT: Final = 32
_LONGEST_WAIT_S: Final = 30.0


class Sheets:
    """Draws one sheet at a time; safe in any thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._drawing = threading.Lock()

    def get(self, data: "ClassData") -> bytes:
        """Return the PNG of a contact sheet.

        Raises:
            DataError: it cannot be drawn, or others are still being drawn.
        """
        from metafleet.data.sheet.sheet import write_sheet  # noqa: PLC0415 - needs Pillow

        key = key_of_sheet(data)
        if (kept := self._kept.get(key)) is not None:
            return kept
        if not self._drawing.acquire(timeout=_LONGEST_WAIT_S):
            raise DataError("other sheets are still being drawn; load the page again later")
        try:
            if key not in self._kept:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, "sheet.png")
                    write_sheet(data, path)
                    self._kept[key] = path.read_bytes()
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
            return self._kept[key]
        finally:
            self._drawing.release()


def key_of_sheet(data: "ClassData") -> str:
    """Return a text that changes with the data and their splits."""
    return f"{data.prepared.path.name}-{data.digest()[:16]}"

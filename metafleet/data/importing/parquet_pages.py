"""What the pages of a Parquet file say of themselves: readers allocate by that, not by the footer.

Each page begins with a ``PageHeader`` in Thrift's compact protocol. Sizes, numbers of values and
encodings are in the footer as well, but nothing holds the two together.

Source: parquet-format, src/main/thrift/parquet.thrift; Thrift, thrift-compact-protocol.md.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PLAIN_DICTIONARY, DELTA_BYTE_ARRAY, RLE_DICTIONARY = 2, 7, 8
"""Encodings, by their numbers, whose values may be longer than all that the file stores."""

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
_INTEGERS = {_I16: 16, _I32: 32, _I64: 64}
_DEEPEST = 8
_ENTRY_BYTES = 16
"""Of a dictionary's entry, besides its bytes, in a reader's memory."""
_PADDING_BYTES = 100
"""Readers add so much to the chunks of old parquet-mr, which counted them too short."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of one column in one row group.

    Attributes:
        n_bytes: that they take once they are decompressed.
        n_values: in them, those that are null included.
        encodings: of them, by their numbers.
    """

    n_bytes: int
    n_values: int
    encodings: frozenset[int]


def read_pages(content: Any, chunk: Any, created_by: str) -> Pages:
    """Read the headers of a column's pages, and none of what is in them.

    Args:
        content: the file, as bytes or mapped to memory.
        chunk: pyarrow's ``ColumnChunkMetaData``.
        created_by: as the footer says.

    Raises:
        ValueError: no reader would take them for pages.
    """
    if not chunk.num_values:  # readers look at no page, and its offsets need not be those of any
        return Pages(0, 0, frozenset())
    n_bytes, n_values, encodings = 0, 0, set()
    for header in _headers(content, chunk, created_by):
        entries = _field(header, 7, 1)
        n_bytes += max(_field(header, 2), _field(header, 3)) + entries * _ENTRY_BYTES
        n_values += max(_field(header, 5, 1), _field(header, 8, 1))
        encodings |= {_field(header, 5, 2), _field(header, 8, 4)}
    return Pages(n_bytes, n_values, frozenset(encodings))


def _headers(content: Any, chunk: Any, created_by: str) -> Iterator[dict[int, Any]]:
    """Yield the header of each page: number of a field -> value, {...} for a struct."""
    place = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < place:
        place = chunk.dictionary_page_offset
    end = place + chunk.total_compressed_size
    if place < 0 or not place <= end <= len(content):
        raise ValueError(f"column {chunk.path_in_schema!r} lies outside the file")
    while place < end:
        fields, place = _next(content, place)
        yield fields
    if "parquet-mr" in created_by:
        last = min(end + _PADDING_BYTES, len(content))
        with contextlib.suppress(ValueError):  # whatever follows need not be a page
            while place < last:
                fields, place = _next(content, place)
                yield fields


def _next(content: Any, place: int) -> tuple[dict[int, Any], int]:
    """Return the header that is there, and where the next one is."""
    header = _Thrift(content, place)
    fields = header.struct()
    if not {1, 2, 3} <= fields.keys():
        raise ValueError("a page's header does not say what and how large the page is")
    return fields, header.place + _field(fields, 3)


def _field(header: dict[int, Any], *path: int) -> int:
    """Return an integer of a header or of a struct in it; 0 where it has none."""
    found: Any = header
    for number in path:
        found = found.get(number) if isinstance(found, dict) else None
    if found is None or isinstance(found, dict):
        return 0
    if found < 0:
        raise ValueError(f"a page's header says {found} where it counts")
    return int(found)


class _Thrift:
    """Reads structs as readers of Parquet do, who take numbers modulo their widths."""

    def __init__(self, content: Any, place: int) -> None:
        self._content = content
        self.place = place

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read a struct: number of a field -> integer, or the fields of a struct; no other kind.

        Raises:
            ValueError: it is none, or has a field twice.
        """
        if depth > _DEEPEST:
            raise ValueError("a page's header is too deep")
        fields: dict[int, Any] = {}
        number = 0
        while (kind := (first := self._byte()) & 15) != 0:
            number = _signed(number + (first >> 4), 16) if first >> 4 else self._integer(16)
            if number in fields:
                raise ValueError(f"a page's header has field {number} twice")
            fields[number] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer(_INTEGERS[kind])
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BINARY:
            n_bytes = self._varint() & 0xFFFFFFFF
            self.place += n_bytes
        elif kind in (_BYTE, _DOUBLE):
            self.place += 1 if kind == _BYTE else 8
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"a page's header has a field of kind {kind}")
        return None

    def _integer(self, n_bits: int) -> int:
        value = self._varint() & (0xFFFFFFFF if n_bits <= 32 else 0xFFFFFFFFFFFFFFFF)
        return _signed(value >> 1 ^ -(value & 1), n_bits)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a page's header has a number of more than ten bytes")

    def _byte(self) -> int:
        if not 0 <= self.place < len(self._content):
            raise ValueError("a page's header goes on beyond the file")
        self.place += 1
        return int(self._content[self.place - 1])


def _signed(value: int, n_bits: int) -> int:
    half = 1 << (n_bits - 1)
    return (value + half) % (2 * half) - half

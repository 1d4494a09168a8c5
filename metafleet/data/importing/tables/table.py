"""Tables: CSV, TSV, JSON lines and Parquet, with the line number of each row."""

import codecs
import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metafleet.data.decoding.processes import DecodingProcess
from metafleet.data.importing.part import FilePart
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.spreadsheet import from_text
from metafleet.data.importing.tables.parquet_table import read_parquet
from metafleet.errors import DecodeError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_DELIMITERS = ",;\t"
_LARGEST = float(np.finfo(np.float32).max)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOOKED_AT = 1024
_NOT_UTF8 = "is not UTF-8; save the file as UTF-8"


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        where: file and line, such as "metadata.csv:17". Lines are counted from 1, including the
            header. For Parquet, the row's number takes the place of the line.
        values: column -> value.
    """

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that was read.

    Attributes:
        file: the file from which the table was read.
        columns: names of the columns, in the order of the file.
        rows: the rows that could be read.
    """

    file: FilePart
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_tables(files: Iterable[FilePart], log: ProblemLog) -> list[Table]:
    """Return the tables that can be read; a single process reads all Parquet files."""
    with DecodingProcess() as process:
        tables = [_read(file, log, process) for file in files]
    return [table for table in tables if table is not None]


def read_table(file: FilePart, log: ProblemLog) -> Table | None:
    """Read a file with one of ``TABLE_SUFFIXES``; return None if it cannot be read."""
    return next(iter(read_tables([file], log)), None)


def _read(file: FilePart, log: ProblemLog, process: DecodingProcess) -> Table | None:
    suffix = file.path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _read_parquet(file, log, process)
        content = file.read()
    except DecodeError as error:
        log.add_fatal("unreadable-file", file.name, str(error))
        return None
    begins = content[:_LOOKED_AT]
    if begins.startswith(_UTF16) or 3 * begins.count(b"\0") > len(begins):
        log.add_fatal("not-utf8", file.name, "looks like UTF-16; save the file as UTF-8")
        return None
    if suffix == ".jsonl":
        return _read_json_lines(file, content, log)
    return _read_csv(file, content, log)


def text_of(value: Any) -> str | None:
    """Return a cell as a text, without surrounding white space.

    Returns:
        The text; "" if the cell is empty or NaN; None if the cell is not a text, number or boolean.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # Parquet and pandas turn integers with gaps into floats
    if isinstance(value, str | int | float):
        return str(value).strip()
    return None


def number_of(value: Any) -> float | None:
    """Return a cell as a number that a float32 can hold; None if it is not such a number.

    Unlike ``float``, this refuses "1_000" and digits of other scripts.
    """
    is_odd = isinstance(value, bool) or (
        isinstance(value, str) and ("_" in value or not value.isascii())
    )
    try:
        number = math.nan if is_odd else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= _LARGEST else None  # NaN fails every comparison


def _read_csv(file: FilePart, content: bytes, log: ProblemLog) -> Table | None:
    broken = _broken_lines(file, content, content.splitlines(), log)
    text = content.decode("utf-8-sig", errors="replace")
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    lines = _csv_lines(file, reader, log)
    columns = next((fields for _, fields in lines if any(map(str.strip, fields))), [])
    columns = [column.strip() for column in columns]
    if not columns:
        log.add_fatal("unreadable-file", file.name, "is empty; expected a header and rows")
    if not columns or not _has_different_columns(file, columns, log):
        return None
    rows = []
    for line, fields in lines:
        last = reader.line_num
        if _is_blank(fields) or any(number in broken for number in range(line, last + 1)):
            continue
        if last > line and _ends_in_quotes(text, line, delimiter):
            log.add("bad-line", f"{file.name}:{line}", "opens a quote that is never closed")
            continue
        where = f"{file.name}:{line}"
        if len(fields) != len(columns):
            log.add("bad-line", where, _why_wrong(fields, len(columns), delimiter))
            continue
        rows.append(Row(where, dict(zip(columns, map(from_text, fields), strict=True))))
    return Table(file, tuple(columns), tuple(rows))


def _is_blank(fields: Sequence[str]) -> bool:
    """Return whether a row has only separators, as spreadsheets write below the last row."""
    return not "".join(fields).strip(f"{_DELIMITERS} ")


def _why_wrong(fields: Sequence[str], n_columns: int, delimiter: str) -> str:
    """Return why a row does not have as many fields as the header."""
    others = [d for d in _DELIMITERS if d != delimiter and fields[0].count(d) == n_columns - 1]
    if len(fields) == 1 and n_columns > 1 and others:
        return f"separates fields by {others[0]!r} where the header has {delimiter!r}; use one"
    return (
        f"has {len(fields)} fields where the header has {n_columns}; quote texts that hold "
        f"{delimiter!r}"
    )


def _csv_lines(file: FilePart, reader: Any, log: ProblemLog) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the number of its first line."""
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            log.add("bad-line", f"{file.name}:{line}", f"is no line of a table ({error})")


def _ends_in_quotes(text: str, line: int, delimiter: str) -> bool:
    """Return whether the row that begins at a line has an unclosed quote up to the text's end."""
    lines = itertools.islice(io.StringIO(text, newline=""), line - 1, None)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        next(reader)
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _has_different_columns(file: FilePart, columns: Sequence[str], log: ProblemLog) -> bool:
    twice = [column for column, n in Counter(columns).items() if n > 1]
    for column in twice:
        log.add_fatal(
            "duplicate-column", f"{file.name}:1", f"two columns are called {column!r}; rename one"
        )
    return not twice


def _read_json_lines(file: FilePart, content: bytes, log: ProblemLog) -> Table:
    broken = _broken_lines(file, content, content.split(b"\n"), log)
    columns: dict[str, None] = {}
    rows = []
    for number, line in enumerate(content.decode("utf-8-sig", errors="replace").split("\n"), 1):
        if not line.strip() or number in broken:
            continue
        where = f"{file.name}:{number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            log.add("bad-line", where, f"is not JSON ({error}); fix or delete the line")
            continue
        if not isinstance(values, dict):
            log.add("bad-line", where, f"is a {type(values).__name__}; expected a JSON object")
            continue
        if _has_half_characters(line, values):
            log.add("not-utf8", where, "holds half of a character; fix or delete the line")
            continue
        columns.update(dict.fromkeys(values))
        rows.append(Row(where, values))
    return Table(file, tuple(columns), tuple(rows))


def _has_half_characters(line: str, values: Any) -> bool:
    r"""Return whether JSON escapes half of a surrogate pair alone, such as "\ud83d"."""
    if "\\ud" not in line.lower():
        return False
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _broken_lines(file: FilePart, content: bytes, lines: list[bytes], log: ProblemLog) -> set[int]:
    """Return the numbers of the lines that are not UTF-8, and log them."""
    try:
        content.decode()
    except UnicodeDecodeError:
        pass
    else:
        return set()
    broken = set()
    for number, line in enumerate(lines, 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            broken.add(number)
            log.add("not-utf8", f"{file.name}:{number}", _NOT_UTF8)
    return broken


def _read_parquet(file: FilePart, log: ProblemLog, process: DecodingProcess) -> Table | None:
    found = read_parquet(file, log, process)
    if found is None or not _has_different_columns(file, found.columns, log):
        return None
    rows = tuple(Row(f"{file.name}:{number}", values) for number, values in found.rows)
    return Table(file, found.columns, rows)

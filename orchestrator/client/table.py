"""A table of records, for plain Python, pandas and Arrow."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from metafleet.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow

_MOST_SHOWN: Final = 20


class Table:
    """Columns of equal length. Immutable.

    ``table["loss"]`` is the column "loss", as a list. ``list(table)`` is the list of rows, each of
    them a dict. ``len(table)`` is the number of rows. ``pandas.DataFrame(table)`` makes a data
    frame. A notebook shows the first rows.

    Args:
        names: names of the columns.
        rows: the rows, each a mapping from column name to value. If a row lacks a column, the value
            is None.
    """

    def __init__(self, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        self._columns = {name: [row.get(name) for row in rows] for name in names}
        self._n_rows = len(rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._columns)

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._columns:
            raise KeyError(f"no column {name!r}; expected one of {', '.join(self._columns)}")
        return list(self._columns[name])

    def __len__(self) -> int:
        return self._n_rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in range(self._n_rows):
            yield {name: column[index] for name, column in self._columns.items()}

    def __repr__(self) -> str:
        return f"<Table of {self._n_rows} rows: {', '.join(self._columns)}>"

    def to_arrow(self) -> "pyarrow.Table":
        """Return an Arrow table.

        Raises:
            ConfigError: pyarrow is not installed.
        """
        try:
            import pyarrow  # noqa: PLC0415 - an optional package
        except ImportError as error:
            raise ConfigError(
                "pyarrow is not installed; pip install 'metafleet[parquet]'"
            ) from error
        return pyarrow.table(self._columns)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self._columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row.values())}</tr>"
            for row, _ in zip(self, range(_MOST_SHOWN), strict=False)
        )
        more = f"<p>{self._n_rows} rows</p>" if self._n_rows > _MOST_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)

"""Decode cells in this thread, or in threads that each pass cells to their own process."""

import itertools
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from metafleet.data.decoding.base import Decoder
from metafleet.data.decoding.processes import DecodingProcess
from metafleet.data.decoding.row_file import RowFile
from metafleet.data.decoding.source import Source, read_source
from metafleet.errors import DecodeError

_CELLS_WORTH_A_PROCESS = 200


@dataclass(frozen=True, slots=True)
class Cell:
    """One modality of one item, to be decoded.

    Attributes:
        column, item: indices of the cell's column and item.
        decoder, options: the decoder of the column, and its options.
        source: source of the cell's bytes.
        target: the file to which the decoded row is written, at row ``item``.
    """

    column: int
    item: int
    decoder: Decoder
    options: Any
    source: Source
    target: RowFile


DecodedCell = tuple[Cell, str | None]
"""A cell, and the reason why it could not be decoded, or None."""


def decode_cells(cells: Sequence[Cell], n_processes: int | None) -> Iterator[DecodedCell]:
    """Decode every cell, and yield the outcomes in arbitrary order.

    Args:
        cells: the cells to decode.
        n_processes: number of processes for cells that take long to decode. 0 decodes in this
            process. None uses one per core, or fewer if there are few cells.

    Raises:
        DataError: a row cannot be written, or no process can be started.
    """
    slow = [cell for cell in cells if not cell.decoder.is_quick(cell.options)]
    quick = [cell for cell in cells if cell.decoder.is_quick(cell.options)]
    n_processes = _n_processes(len(slow)) if n_processes is None else n_processes
    decoded = _decode_in_workers(slow, n_processes) if n_processes else map(_decode_here, slow)
    return itertools.chain(map(_decode_here, quick), decoded)


def _n_processes(n_cells: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n_processes = min(cores or 1, n_cells // _CELLS_WORTH_A_PROCESS)
    return n_processes if n_processes > 1 else 0


def _decode_here(cell: Cell) -> DecodedCell:
    try:
        row = cell.decoder.decode(read_source(cell.source), cell.options)
    except DecodeError as error:
        return cell, str(error)
    cell.target.write(cell.item, row.tobytes())
    return cell, None


def _decode_in_workers(cells: Sequence[Cell], n_processes: int) -> Iterator[DecodedCell]:
    todo: queue.SimpleQueue[Cell] = queue.SimpleQueue()
    done: queue.SimpleQueue[DecodedCell | BaseException] = queue.SimpleQueue()
    for cell in cells:
        todo.put(cell)
    stop = threading.Event()
    threads = [
        threading.Thread(target=_work, args=(todo, done, stop), daemon=True)
        for _ in range(n_processes)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in cells:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _work(
    todo: "queue.SimpleQueue[Cell]",
    done: "queue.SimpleQueue[DecodedCell | BaseException]",
    stop: threading.Event,
) -> None:
    try:
        with DecodingProcess() as process:
            while not stop.is_set():
                done.put(_decode_in(process, todo.get_nowait()))
    except queue.Empty:
        return
    except BaseException as error:  # passed on to the thread that waits for outcomes
        done.put(error)


def _decode_in(process: DecodingProcess, cell: Cell) -> DecodedCell:
    try:
        row = process.decode(cell.decoder, cell.options, cell.source)
    except DecodeError as error:
        return cell, str(error)
    cell.target.write(cell.item, row)
    return cell, None

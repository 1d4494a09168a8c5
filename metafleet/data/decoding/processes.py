"""Processes that decode one item at a time. If a process dies or hangs, only its item is lost.

The processes are separate programs, not forks. They copy nothing from this process and do not
inherit a library's threads in a broken state. Even a daemonic process, such as a process of a
Celery worker, may start them. No pickles are sent.
"""

import contextlib
import json
import marshal
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from metafleet.data.decoding.base import Decoder
from metafleet.data.decoding.registry import is_own
from metafleet.data.decoding.source import Source
from metafleet.errors import DataError, DecodeError

ITEM_TIMEOUT_S: Final = 300.0
"""An item that takes longer is considered hung; the longest video takes far less."""

_ADVICE = "write it again or leave it out"
_PROGRAM = "metafleet.data.decoding.worker_main"


class DecodingProcess:
    """A process that decodes items one after the other, started on demand; not thread-safe."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "DecodingProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._end(self._process)

    def decode(self, decoder: Decoder, options: Any, source: Source) -> bytes:
        """Decode one item to the bytes of its row.

        Raises:
            DecodeError: the item cannot be decoded, or it made the process die or hang.
            DataError: no process can be started.
        """
        return self._ask(_request(decoder, options, source))

    def read_parquet(self, path: Path, max_bytes: int) -> Any:
        """Read a Parquet file within ``max_bytes`` of memory; see ``parquet_rows.read_rows``.

        Returns:
            Three things: the column names; a mapping from column to class names; the rows, each a
            mapping from column to value.

        Raises:
            DecodeError: the file is damaged, needs more memory, or made the process die or hang.
            DataError: no process can be started.
        """
        header = {"max_bytes": max_bytes, "timeout_s": ITEM_TIMEOUT_S, "path": str(path)}
        return marshal.loads(self._ask(json.dumps(header).encode() + b"\n"))

    def _ask(self, request: bytes) -> bytes:
        process = self._process = self._process or _start()
        requests, answers = _pipes(process)
        try:
            requests.write(request)
            requests.flush()
            header = answers.readline()
            reply = json.loads(header) if header.endswith(b"\n") else None
            row = answers.read(reply["n_bytes"]) if reply else b""
        except BrokenPipeError:
            reply, row = None, b""
        if reply is None or len(row) != reply["n_bytes"]:
            self._process = None
            raise DecodeError(_describe_end(self._end(process)))
        if reply["is_last"]:
            self._process = None
            self._end(process)
        if reply["error"] is not None:
            raise DecodeError(reply["error"])
        return row

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> int:
        requests, answers = _pipes(process)
        with contextlib.suppress(OSError):
            requests.close()
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        answers.close()
        return code


def _describe_end(code: int) -> str:
    if code == -signal.SIGALRM:  # the process's own timer, see worker_main
        return f"decoding it hung: no result after {ITEM_TIMEOUT_S:g} s; {_ADVICE}"
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    return f"decoding it ended the decoder's process ({how}); {_ADVICE}"


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _PROGRAM],  # -P: no imports from the working directory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        raise DataError(
            f"cannot start a process that decodes ({error}); free memory or processes"
        ) from error


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    return process.stdin, process.stdout


def _places() -> list[str]:
    """Return the folders in which this process finds packages, as absolute paths.

    The folders are passed explicitly because a notebook's folder is not in PYTHONPATH. The folder
    of a notebook is in ``sys.path`` as "", which means the working directory. The decoding process
    runs with ``-P``, because it must not search the working directory first.
    """
    return [os.path.abspath(place) for place in sys.path]


def _request(decoder: Decoder, options: Any, source: Source) -> bytes:
    header: dict[str, Any] = {"kind": decoder.kind, "options": json.dumps(asdict(options))}
    header |= {"timeout_s": ITEM_TIMEOUT_S, "places": _places() if is_own(decoder.kind) else []}
    if isinstance(source, bytes):
        header |= {"path": None, "offset": 0, "n_bytes": len(source)}
        return json.dumps(header).encode() + b"\n" + source
    header |= {"path": str(source.path), "offset": source.offset, "n_bytes": source.n_bytes}
    return json.dumps(header).encode() + b"\n"

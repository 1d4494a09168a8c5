"""Processes that decode, each with one item at a time; one that dies or hangs costs its item alone.

They are programs of their own, not forks: nothing of this process is copied, no library's threads
are cut in half, a daemon such as a Celery worker may have them, and no pickle travels.
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
"""An item that takes longer hangs: far more than the longest video takes."""

_ADVICE = "write it again or leave it out"
_PROGRAM = "metafleet.data.decoding.worker_main"


class DecodingProcess:
    """A process that decodes items one after the other; for one thread. Started when needed."""

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
            DecodeError: it cannot be decoded, or the process died of it, or hung.
            DataError: no process can be started.
        """
        return self._ask(_request(decoder, options, source))

    def read_parquet(self, path: Path, max_bytes: int) -> Any:
        """Read a Parquet file with at most so much memory; see ``parquet_rows.read_rows``.

        Returns:
            Names of columns; column -> names of its classes; rows, column -> value.

        Raises:
            DecodeError: it is damaged or takes more memory, or the process died of it, or hung.
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
            [sys.executable, "-P", "-m", _PROGRAM],  # -P: no module of the working directory
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
    """Return where this process finds packages; a notebook's folder is in no PYTHONPATH.

    There it is "", the working directory, where the other process may not look first (``-P``).
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

"""The program of a decoding process: requests on standard input, rows on standard output.

A request is a line of JSON, {"kind", "options", "timeout_s", "path", "offset", "n_bytes",
"places"}, followed by n_bytes bytes if "path" is null. The package of a user's kind is searched for
on this process's ``sys.path``, and then in "places". A request for the rows of a Parquet file is
{"max_bytes", "timeout_s", "path"}. A reply is a line of JSON, {"error", "is_last", "n_bytes"},
followed by the row's n_bytes bytes. The process exits when its input ends, for example because its
parent has exited. The process also exits after it ran out of memory. If an item takes longer than
timeout_s, SIGALRM ends the process, even if a C library never returns.
"""

import functools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from metafleet.data.decoding.base import Decoder
from metafleet.data.decoding.parquet_rows import read_rows
from metafleet.data.decoding.registry import get_decoder
from metafleet.data.decoding.source import FileBytes, read_source
from metafleet.errors import MetafleetError
from metafleet.options import parse_options
from metafleet.sources import package_of


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a parent may have had it ignored
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keep the output of libraries out of the rows
    is_last = False
    while not is_last and (line := requests.readline()):
        header = json.loads(line)
        source = requests.read(header["n_bytes"]) if header["path"] is None else None
        signal.setitimer(signal.ITIMER_REAL, header["timeout_s"])
        try:
            error, row = decode(header, source)
        except MemoryError as reason:
            of_decoders = "decoding it takes more memory than there is"
            error = str(reason) if "max_bytes" in header else of_decoders
            row, is_last = b"", True
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply = {"error": error, "is_last": is_last, "n_bytes": len(row)}
        answers.write(json.dumps(reply).encode() + b"\n")
        answers.write(row)
        answers.flush()


def decode(header: dict[str, Any], source: bytes | None) -> tuple[str | None, bytes]:
    """Decode one item. Return an error message or None, and the row."""
    try:
        if "max_bytes" in header:
            return None, read_rows(Path(header["path"]), header["max_bytes"])
        sys.path += [place for place in header["places"] if place not in sys.path]
        decoder, options = _decoder(header["kind"], header["options"])
        if source is None:
            part = FileBytes(Path(header["path"]), header["offset"], header["n_bytes"])
            source = read_source(part)
        return None, decoder.decode(source, options).tobytes()
    except MetafleetError as reason:
        return str(reason), b""


@functools.lru_cache(maxsize=64)
def _decoder(kind: str, options: str) -> tuple[Decoder, Any]:
    decoder = get_decoder(kind, allowed_packages=[package_of(kind)])  # the parent has imported it
    return decoder, parse_options(decoder.Options, json.loads(options), where=f"decoder {kind!r}")


if __name__ == "__main__":
    main()

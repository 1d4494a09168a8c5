"""The program of a decoding process: requests on standard input, rows on standard output.

A request is a line of JSON, {"kind", "options", "path", "offset", "n_bytes"}, followed by n_bytes
bytes where "path" is null. An answer is a line of JSON, {"error", "n_bytes"}, followed by the row's
n_bytes bytes. The process ends with its input, hence with whoever started it.
"""

import functools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from metafleet.data.decoding.base import Decoder
from metafleet.data.decoding.registry import DECODERS
from metafleet.data.decoding.source import FilePart, read_source
from metafleet.errors import MetafleetError
from metafleet.options import parse_options


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the rows
    while line := requests.readline():
        header = json.loads(line)
        source = requests.read(header["n_bytes"]) if header["path"] is None else None
        answer(header, source, answers)
        answers.flush()


def answer(header: dict[str, Any], source: bytes | None, answers: BinaryIO) -> None:
    """Decode one item and write its row, or why there is none."""
    error, row = None, b""
    try:
        decoder, options = _decoder(header["kind"], header["options"])
        if source is None:
            part = FilePart(Path(header["path"]), header["offset"], header["n_bytes"])
            source = read_source(part)
        row = decoder.decode(source, options).tobytes()
    except MetafleetError as reason:
        error = str(reason)
    except MemoryError:
        error = "decoding it takes more memory than there is"
    answers.write(json.dumps({"error": error, "n_bytes": len(row)}).encode() + b"\n" + row)


@functools.lru_cache(maxsize=64)
def _decoder(kind: str, options: str) -> tuple[Decoder, Any]:
    decoder = DECODERS[kind]
    return decoder, parse_options(decoder.Options, json.loads(options), where=f"decoder {kind!r}")


if __name__ == "__main__":
    main()

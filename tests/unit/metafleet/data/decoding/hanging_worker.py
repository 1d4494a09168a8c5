"""The program of a decoding process, with a decoder of pictures that hangs on request."""

import threading

from metafleet.data.decoding.image import ImageDecoder
from metafleet.data.decoding.worker_main import main

_decode = ImageDecoder.decode


def _decode_or_hang(self, source, options):
    if source == b"hang":
        threading.Event().wait()
    return _decode(self, source, options)


if __name__ == "__main__":
    ImageDecoder.decode = _decode_or_hang
    main()

"""Random numbers that depend only on *what* is drawn, and not on where or when.

``CounterRng`` is BLAKE2b in counter mode. The address of a stream is (run seed, split, outer step,
episode). Block i of the stream is the keyed hash of the address and i. No state is carried between
episodes, so any worker can draw episode 17 of step 1000 without drawing the earlier ones. The
numbers are the same on every platform and with every version of torch or numpy.
"""

import functools
import hashlib
import itertools
import math
import struct
from collections.abc import Iterator

_BLOCK = struct.Struct("<8Q")
_WORDS_PER_BLOCK = 8
_WORD = struct.Struct("<Q")
_TWO_64 = 1 << 64
_LOW_64 = _TWO_64 - 1
MAX_SEED = _TWO_64 - 1


@functools.lru_cache(maxsize=64)
def _hash_of_step(seed: int, domain: str, step: int) -> "hashlib.blake2b":
    """Return the hash of the part of an address that all episodes of a step share.

    Callers copy the hash, and do not change it. Because of this shared hash, a block costs one
    compression instead of two.
    """
    start = hashlib.blake2b(key=_WORD.pack(seed), person=domain.encode())
    start.update(_WORD.pack(step))
    return start


class CounterRng:
    """A stream of independent random numbers addressed by (seed, domain, step, index).

    Args:
        seed: the run's seed, 0 <= seed < 2**64.
        domain: purpose of the numbers, such as the name of a split; at most 16 bytes of UTF-8.
        step: outer step, >= 0.
        index: episode index within the step, >= 0.

    A stream is not thread-safe. Create a stream for each episode, which takes a microsecond.
    """

    def __init__(self, seed: int, domain: str, step: int = 0, index: int = 0) -> None:
        self._seed, self._step, self._index = seed, step, index
        self._address = _hash_of_step(seed, domain, step).copy()
        self._address.update(_WORD.pack(index))
        self._words = self._stream()

    def with_domain(self, domain: str) -> "CounterRng":
        """Return the stream of another purpose with the same seed, step and index."""
        return CounterRng(self._seed, domain, self._step, self._index)

    def _stream(self) -> Iterator[int]:
        for counter in itertools.count():
            yield from _BLOCK.unpack(self._block(counter))

    def _block(self, counter: int) -> bytes:
        block = self._address.copy()
        block.update(_WORD.pack(counter))
        return block.digest()

    def first_words(self, n: int) -> bytes:
        """Return at least the first n words of the stream, as little-endian 64-bit integers.

        This method draws no numbers. It does not change what other methods return.
        """
        return b"".join(map(self._block, range(-(-n // _WORDS_PER_BLOCK))))

    @property
    def index(self) -> int:
        """The episode index in the stream's address."""
        return self._index

    def integer(self, bound: int) -> int:
        """Draw one integer in [0, bound), without bias (Lemire 2019, arXiv:1805.10941)."""
        product = next(self._words) * bound
        if product & _LOW_64 < bound:
            product = self._without_bias(product, bound)
        return product >> 64

    def sample(self, n: int, k: int) -> list[int]:
        """Draw k different integers in [0, n) in random order: a Fisher-Yates shuffle cut at k."""
        swapped: dict[int, int] = {}
        drawn = []
        words = self._words
        for i in range(k):
            product = next(words) * (n - i)  # ``integer`` inlined: episodes draw hundreds
            if product & _LOW_64 < n - i:
                product = self._without_bias(product, n - i)
            j = i + (product >> 64)
            drawn.append(swapped.get(j, j))
            swapped[j] = swapped.get(i, i)
        return drawn

    def _without_bias(self, product: int, bound: int) -> int:
        """Draw again while ``product`` would bias the result towards some integers."""
        threshold = _TWO_64 % bound
        while product & _LOW_64 < threshold:
            product = next(self._words) * bound
        return product

    def uniform(self) -> float:
        """Draw one float64 in [0, 1) with 53 random bits."""
        return (next(self._words) >> 11) * 2.0**-53

    def uniforms(self, n: int) -> list[float]:
        """Draw the same as n calls of ``uniform``, but faster."""
        return [(word >> 11) * 2.0**-53 for word in itertools.islice(self._words, n)]

    def normal(self) -> float:
        """Draw one standard normal float64 (Box and Muller 1958)."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.uniform()))
        return radius * math.cos(2.0 * math.pi * self.uniform())

    def torch_seed(self) -> int:
        """Draw a seed for a ``torch.Generator``, in [0, 2**63)."""
        return next(self._words) >> 1

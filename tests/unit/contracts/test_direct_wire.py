"""The handshake of the direct stream, byte by byte."""

import signal
import socket
from typing import Any

from contracts.direct_wire import limit, shake_hands


def test_a_signal_in_the_midst_of_a_handshake_costs_nothing() -> None:
    ours, theirs = socket.socketpair()
    hello = b"metafleet direct 1\n" + bytes(range(32))
    theirs.sendall(hello[:10])
    answered: list[int] = []

    def say_the_rest(number: int, frame: Any) -> None:
        answered.append(number)
        theirs.sendall(hello[10:] + bytes(32))  # and a proof, which is wrong

    before = signal.signal(signal.SIGALRM, say_the_rest)
    try:
        with ours, theirs:
            limit(ours, 5)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            assert not shake_hands(ours, "key", is_server=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert answered

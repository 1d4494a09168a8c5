"""Reads large values from Redis straight into memory.

redis-py gathers a value in a buffer, piece by piece, and copies it twice: for 50 MB twice the time
of receiving it into the place where it is used. hiredis copies it too, and slows down sending.
"""

import socket
from typing import Any, Final

import redis

from metafleet.contracts.connections import Client

_LONGEST_LENGTH: Final = 32


def read_values(client: Client, lengths: dict[str, int]) -> bytearray | None:
    """Read several values and join them, in one round trip.

    Args:
        client: of the server.
        lengths: key -> length that its value must have, in order.

    Returns:
        The joined values; None when one is not there, or not a string of its length.

    Raises:
        redis.RedisError: as the client's own commands do.
    """
    # a connection of the pool, with its password, TLS, health check and second try
    connection: Any = client.connection_pool.get_connection()
    try:
        if hasattr(connection, "_sock"):
            return connection.retry.call_with_retry(  # type: ignore[no-any-return]
                lambda: _read(connection, lengths), lambda _error: connection.disconnect()
            )
    finally:
        client.connection_pool.release(connection)
    return _read_by_commands(client, lengths)


def _read_by_commands(client: Client, lengths: dict[str, int]) -> bytearray | None:
    """Read with the public commands of redis-py alone: slower, the same answer."""
    with client.pipeline(transaction=False) as pipeline:
        for key, length in lengths.items():
            pipeline.exists(key)
            pipeline.getrange(key, 0, length)  # one byte more than it should have
        try:
            answers = pipeline.execute()
        except redis.ResponseError:  # another type of value
            return None
    values = answers[1::2]
    if not all(answers[::2]) or list(map(len, values)) != list(lengths.values()):
        return None
    return bytearray().join(values)


def _read(connection: Any, lengths: dict[str, int]) -> bytearray | None:
    joined = bytearray(sum(lengths.values()))
    view, end = memoryview(joined), 0
    commands = [("GET", key) for key in lengths]
    connection.send_packed_command(connection.pack_commands(commands))
    try:
        for length in lengths.values():
            if _read_line(connection._sock) != b"$%d" % length:
                # a missing or another value, or an error: what follows is not worth reading
                connection.disconnect()
                return None
            _fill(connection._sock, view[end : end + length])
            _fill(connection._sock, memoryview(bytearray(2)))
            end += length
    except TimeoutError as error:
        connection.disconnect()
        raise redis.exceptions.TimeoutError(f"Timeout while reading: {error}") from error
    except OSError as error:
        connection.disconnect()
        raise redis.exceptions.ConnectionError(
            f"Error while reading from socket: {error}"
        ) from error
    except BaseException:
        connection.disconnect()  # what is left of the answer must not be taken for the next one's
        raise
    return joined


def _read_line(sock: socket.socket) -> bytes:
    """Read what stands before a value, byte by byte: not a byte of the value itself."""
    line = bytearray()
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionResetError("the server closed the connection")
        line += byte
        if len(line) > _LONGEST_LENGTH:  # an error's text
            break
    return bytes(line.rstrip(b"\r\n"))


def _fill(sock: socket.socket, view: memoryview) -> None:
    while view:
        received = sock.recv_into(view)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        view = view[received:]

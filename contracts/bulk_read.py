"""Reads large values from Redis straight into memory.

redis-py collects a value in a buffer, piece by piece, and copies it twice. For a value of 50 MB,
redis-py takes twice as long as this module, which receives the value in place. The parser hiredis
copies the value too, and hiredis makes sending slower.
"""

import socket
from typing import Any, Final

import redis

from metafleet.contracts.connections import Client

_LONGEST_LENGTH: Final = 32


def read_values(client: Client, lengths: dict[str, int]) -> bytearray | None:
    """Read several values and join them, in one round trip.

    Args:
        client: client of the server.
        lengths: key -> required length of its value, in the order in which values are joined.

    Returns:
        The joined values; None if a value is missing, is not a string or has another length.

    Raises:
        redis.RedisError: the read failed. The error is the one that a command of the client raises
            for the same reason.
    """
    # a pooled connection has the client's password, TLS, health check and retry
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
    """Read with the public commands of redis-py only: slower, with the same result."""
    with client.pipeline(transaction=False) as pipeline:
        for key, length in lengths.items():
            pipeline.exists(key)
            pipeline.getrange(key, 0, length)  # one byte more than expected
        try:
            answers = pipeline.execute()
        except redis.ResponseError:  # the value has another type
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
                # the value is missing, is another one or is an error: do not read the rest
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
        connection.disconnect()  # the rest of this answer must not be read as the next one
        raise
    return joined


def _read_line(sock: socket.socket) -> bytes:
    """Read the line before a value, byte by byte, so that no byte of the value is consumed."""
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

"""Opens the socket of a server."""

import socket

from metafleet.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        ConfigError: the address is in use, or is not one of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        # create_server adds the address to the text of its errors
        why = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise ConfigError(
            f"cannot listen at {host}:{port} ({why.lower()}); choose another --host or --port"
        ) from error

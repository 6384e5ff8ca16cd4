"""The socket that the pages are served on."""

import errno
import socket


def listen(host: str, port: int, tries: int = 50) -> socket.socket:
    """Bind ``port``, or the next one that is free, and listen. It is never taken from whoever has it.

    Raises OSError when ``host`` is not an address of this machine or ``tries`` ports are all taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + tries):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(512)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return listener
    raise OSError(f"ports {port} to {port + tries - 1} are all taken")

"""Services as local proxies."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable


class Proxy:
    """A Service's address: each connection goes to one of the endpoints, chosen at random."""

    def __init__(self, address: str, port: int, endpoints: Callable[[], list[str]]) -> None:
        self.address = address
        self._port = port
        self._endpoints = endpoints
        self._listener = socket.create_server((address, port), backlog=128)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        addresses = self._endpoints()
        random.shuffle(addresses)
        for address in addresses:
            try:
                far = socket.create_connection((address, self._port), timeout=5)
            except OSError:
                continue
            far.settimeout(None)
            self._open |= {near, far}
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()
            self._open -= {near, far}
            far.close()
            break
        near.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)

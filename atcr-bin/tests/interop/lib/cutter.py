"""A proxy that breaks one connection in the middle."""

import contextlib
import socket
import struct
import threading

from lib.forwarder import PIECE, Forwarder


class Cutter(Forwarder):
    """Passes TCP connections on, and resets the one on which the client sends more than `after` bytes: once."""

    def __init__(self, target, after):
        super().__init__()
        host, port = target.split(":")
        self.target, self.after, self.cuts = (host, int(port)), after, 0
        self.lock = threading.Lock()

    def connect(self):
        return socket.create_connection(self.target)

    def forward(self, source, sink, from_client):
        sent = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                sent += len(piece)
                if from_client and sent > self.after and self._first_cut():
                    break
                sink.sendall(piece)
        self.close(source)
        self.close(sink)

    def _first_cut(self):
        with self.lock:
            self.cuts += 1
            return self.cuts == 1

    def close(self, connection):
        with contextlib.suppress(OSError):
            # A reset, not an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        super().close(connection)

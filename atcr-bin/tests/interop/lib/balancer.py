"""A load balancer on loopback: each connection goes to one of the replicas, by lot."""

import contextlib
import random
import socket

from lib.forwarder import PIECE, Forwarder


class Balancer(Forwarder):
    """Passes TCP connections on to any of `targets` that takes them."""

    def __init__(self, seed):
        super().__init__()
        self.targets, self.taken = [], {}
        self.random = random.Random(seed)

    def connect(self):
        for target in self.random.sample(self.targets, len(self.targets)):
            host, port = target.split(":")
            with contextlib.suppress(OSError):
                connection = socket.create_connection((host, int(port)))
                self.taken[target] = self.taken.get(target, 0) + 1
                return connection
        return None

    def forward(self, source, sink, _):
        try:
            while piece := source.recv(PIECE):
                sink.sendall(piece)
            # One side has said all; the other one may still speak.
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.close(source)
            self.close(sink)

"""A load balancer on loopback: each connection goes to one of the replicas, by lot."""

import contextlib
import random
import socket
import threading

PIECE = 1 << 16


class Balancer:
    """Passes TCP connections on to any of `targets` that takes them. Use as a context manager."""

    def __init__(self, seed):
        self.targets, self.taken = [], {}
        self.random, self.open = random.Random(seed), set()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *failure):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.open):
            self._close(connection)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = self._connect()
        if server is None:
            return client.close()
        self.open |= {client, server}
        back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
        back.start()
        self._pass(client, server)
        back.join()
        self._close(client)
        self._close(server)

    def _connect(self):
        for target in self.random.sample(self.targets, len(self.targets)):
            host, port = target.split(":")
            with contextlib.suppress(OSError):
                connection = socket.create_connection((host, int(port)))
                self.taken[target] = self.taken.get(target, 0) + 1
                return connection
        return None

    def _pass(self, source, sink):
        try:
            while piece := source.recv(PIECE):
                sink.sendall(piece)
            # One side has said all; the other one may still speak.
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(source)
            self._close(sink)

    def _close(self, connection):
        self.open.discard(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

"""A listener on loopback that passes connections on: what a load balancer and a line that breaks have in common."""

import contextlib
import socket
import threading

PIECE = 1 << 16


class Forwarder:
    """Serves each connection in a thread of its own by `serve`. Use as a context manager."""

    def __init__(self):
        self.open = set()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *failure):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.open):
            self.close(connection)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = self.connect()
        if server is None:
            return client.close()
        self.open |= {client, server}
        back = threading.Thread(target=self.forward, args=(server, client, False), daemon=True)
        back.start()
        self.forward(client, server, True)
        back.join()
        self.close(client)
        self.close(server)

    def close(self, connection):
        self.open.discard(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

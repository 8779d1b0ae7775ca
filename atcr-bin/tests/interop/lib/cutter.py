"""A proxy that breaks one connection in the middle."""

import contextlib
import socket
import struct
import threading

PIECE = 1 << 16


class Cutter:
    """Passes TCP connections on, and resets the one on which the client sends more than `after` bytes: once."""

    def __init__(self, target, after):
        host, port = target.split(":")
        self.target, self.after, self.cuts = (host, int(port)), after, 0
        self.lock, self.open = threading.Lock(), set()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1:%d" % self.listener.getsockname()[1]
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
                server = socket.create_connection(self.target)
                self.open |= {client, server}
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source, sink, counted):
        sent = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                sent += len(piece)
                if counted and sent > self.after and self._first_cut():
                    break
                sink.sendall(piece)
        self._close(source)
        self._close(sink)

    def _first_cut(self):
        with self.lock:
            self.cuts += 1
            return self.cuts == 1

    def _close(self, connection):
        self.open.discard(connection)
        with contextlib.suppress(OSError):
            # A reset, not an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

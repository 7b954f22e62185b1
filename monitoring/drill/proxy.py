"""A TCP proxy on loopback that holds back what clients send, for as long as it is told.

What a client had sent before it died still arrives, late, as on a slow network. It changes no byte.
"""

import queue
import socket
import threading
import time


class Proxy:
    """Forwards to `port`; `hold` is the delay in seconds of what clients send from now on."""

    def __init__(self, port):
        self.hold = 0.0
        self.target = ("127.0.0.1", port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                if self.listener.fileno() < 0:
                    return
                client.close()
                continue
            server.settimeout(None)
            held = queue.Queue()
            for work in ((self._take, client, held), (self._send, held, server), (self._pass, server, client)):
                threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def _take(self, client, held):
        data = b"."
        while data:
            try:
                data = client.recv(65536)
            except OSError:
                data = b""
            held.put((time.monotonic() + self.hold, data))

    @staticmethod
    def _send(held, server):
        while True:
            due, data = held.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    server.shutdown(socket.SHUT_WR)
                    return
                server.sendall(data)
            except OSError:
                return

    @staticmethod
    def _pass(server, client):
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        for end in (client, server):
            end.close()

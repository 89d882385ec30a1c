"""A way to a server that can go dark: what is on it is lost without a word, as in a network that forgot it."""

import socket
import threading


class Proxy:
    """Forwards TCP connections to `target`, a (host, port)."""

    def __init__(self, target: tuple[str, int]):
        self.target, self.connections, self.is_dark = target, [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            connection = {"near": near, "is_lost": self.is_dark}
            self.connections.append(connection)
            if not self.is_dark:
                far = connection["far"] = socket.create_connection(self.target)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self.pump, args=(connection, source, sink), daemon=True).start()

    def pump(self, connection: dict, source: socket.socket, sink: socket.socket):
        try:
            while data := source.recv(65536):
                if connection["is_lost"]:
                    return
                sink.sendall(data)
            if not connection["is_lost"]:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def lose_connections(self):
        """Nothing arrives on what is open now. The server learns that it ended; the client learns nothing."""
        for connection in self.connections:
            connection["is_lost"] = True
            if far := connection.get("far"):
                far.close()

    def go_dark(self, is_dark: bool = True):
        """Nor on what is opened from now on."""
        self.is_dark = is_dark
        if is_dark:
            self.lose_connections()

    def close(self):
        self.listener.close()
        for connection in self.connections:
            connection["near"].close()

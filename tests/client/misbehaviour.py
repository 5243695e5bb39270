"""Servers that accept a connection and then do anything but answer properly, in whatever protocol."""

import socket
import threading
from contextlib import closing, contextmanager, suppress

_DRIP_S = 0.02


def silent(connection, stopped):
    """Never write and never read."""
    stopped.wait()


def deaf(connection, stopped):
    """Read everything, never answer."""
    with suppress(OSError):
        while not stopped.is_set() and connection.recv(65536):
            pass


def half(connection, stopped):
    """Begin an answer and stop in the middle of it."""
    connection.recv(65536)
    connection.sendall(_ANSWER[:60])
    stopped.wait()


def drip(connection, stopped):
    """Answer byte by byte, without end."""
    connection.recv(65536)
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not stopped.wait(_DRIP_S):
            connection.sendall(b"{")


def preface(connection, stopped):
    """Begin HTTP/2 as a gRPC server does, and then feed frames that mean nothing, without end."""
    with suppress(OSError):
        connection.sendall(_frame(b"\x04", b""))  # settings
        while not stopped.wait(_DRIP_S):
            connection.sendall(_frame(b"\xfe", b"?"))  # of an unknown kind, to be ignored


def hang_up(connection, stopped):
    """Close at once."""


def rubbish(connection, stopped):
    """Speak no protocol at all."""
    connection.recv(65536)
    with suppress(OSError):
        connection.sendall(b"\x00\xff" * 500 + b"\r\n\r\n")


_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
SLOW = (silent, deaf, half, drip, preface)
WRONG = (hang_up, rubbish)


def _frame(kind, content):
    return len(content).to_bytes(3, "big") + kind + b"\x00" + b"\x00\x00\x00\x00" + content


@contextmanager
def misbehaving(behaviour):
    """A server of this behaviour; yields its port."""
    stopped = threading.Event()
    threads = []

    def serve(connection):
        with suppress(OSError), connection:
            behaviour(connection, stopped)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def accept():
            with suppress(OSError):  # the listener was closed
                while True:
                    threads.append(threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True))
                    threads[-1].start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:  # a test that fails must not leave a thread that keeps the whole run from ending
            stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

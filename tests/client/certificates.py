"""Certificates made on the fly, and a proxy that ends TLS, as nginx would in front of the server."""

import dataclasses
import socket
import ssl
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import trustme


@dataclasses.dataclass(frozen=True)
class Identity:
    """Paths of a certificate, of its key, and of the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


def issue(authority, folder, *names):
    """Issue a certificate for these names."""
    folder.mkdir()
    issued = authority.issue_cert(*names)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return Identity(folder / "certificate.pem", folder / "key.pem", folder / "ca.pem")


@dataclasses.dataclass(frozen=True)
class Identities:
    """A server and a caller of one authority, and a caller of another."""

    server: Identity
    caller: Identity
    stranger: Identity

    @classmethod
    def make(cls, folder):
        """Issue them all."""
        folder.mkdir()
        ours, theirs = trustme.CA(), trustme.CA()
        return cls(
            issue(ours, folder / "server", "localhost"),
            issue(ours, folder / "caller", "caller@example.org"),
            issue(theirs, folder / "stranger", "127.0.0.1", "stranger@example.org"),
        )


@contextmanager
def terminating(port, identity, *, asks_caller=False):
    """End TLS and pass everything on to a port of this machine.

    Args:
        port: where the plain server listens.
        identity: of the proxy.
        asks_caller: whether callers must show a certificate of the same authority.

    Yields:
        The port of the proxy.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    if asks_caller:
        context.load_verify_locations(identity.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def accept():
            with suppress(OSError):  # the listener was closed
                while True:
                    caller = listener.accept()[0]
                    threading.Thread(target=_serve, args=(caller, context, port), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _serve(caller, context, port):
    with (
        suppress(OSError),
        caller,
        context.wrap_socket(caller, server_side=True) as outside,
        socket.create_connection(("127.0.0.1", port)) as inside,
    ):
        back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
        back.start()
        _pump(outside, inside)
        back.join()


def _pump(source, target):
    with suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)

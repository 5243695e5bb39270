"""Certificates made on the fly, and a proxy that ends TLS, as nginx would in front of the server."""

import asyncio
import dataclasses
import ssl
import threading
from contextlib import contextmanager, suppress
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Identity:
    """Paths of a certificate, of its key, and of the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


def issue(authority, folder, *names):
    folder.mkdir()
    issued = authority.issue_cert(*names)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return Identity(folder / "certificate.pem", folder / "key.pem", folder / "ca.pem")


@contextmanager
def terminating(port, identity):
    """End TLS and pass everything on to a port of this machine; callers must have a certificate of the same authority.

    Yields:
        The port of the proxy.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(identity.authority)
    context.verify_mode = ssl.CERT_REQUIRED

    async def relay(reader, writer):
        inside_reader, inside_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pump(reader, inside_writer), _pump(inside_reader, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(relay, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def _pump(reader, writer):
    with suppress(OSError):
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    writer.close()

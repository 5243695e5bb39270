"""Servers over HTTP in this process; `Echo` answers the first byte of each image as its class."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LENGTH = 4  # of a text, in bytes before it


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = -1  # a response is sent as a whole

    def received(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def respond(self, content=b"", status=200, **headers):
        """Send a response; ``_`` in the names of headers stands for ``-``."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def respond_classes(self, entries):
        """Send these class strings as Triton does."""
        raw = texts(entries)
        place = {"binary_data_size": len(raw)}
        output = {"name": "PROBABILITIES__0", "datatype": "BYTES", "shape": [1, len(entries)], "parameters": place}
        header = json.dumps({"model_version": "1", "outputs": [output]}).encode()
        self.respond(header + raw, Inference_Header_Content_Length=len(header))

    def log_message(self, *_):
        pass


class Echo(Handler):
    """Answers the first byte of an image."""

    def do_POST(self):
        image = self.received()[int(self.headers["Inference-Header-Content-Length"]) + LENGTH :]
        self.respond_classes([f"0.5:{image[0]}:x".encode()])


def texts(entries):
    """Byte strings as Triton encodes them."""
    return b"".join(len(entry).to_bytes(LENGTH, "little") + entry for entry in entries)


@contextmanager
def serving(handler):
    """A server with this handler; yields it with its ``url``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

"""A server over HTTP that answers the first byte of each image as its class, at once."""

import json
from http.server import BaseHTTPRequestHandler

LENGTH = 4  # of a text, in bytes before it
OUTPUT = "PROBABILITIES__0"


def tensor(image):
    """The response to an image that follows its own length."""
    text = f"0.5:{image[LENGTH]}:x".encode()
    return len(text).to_bytes(LENGTH, "little") + text


class Echo(BaseHTTPRequestHandler):
    """Over HTTP."""

    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = -1  # a response is sent as a whole

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        answered = tensor(content[int(self.headers["Inference-Header-Content-Length"]) :])
        place = {"binary_data_size": len(answered)}
        output = {"name": OUTPUT, "datatype": "BYTES", "shape": [1, 1], "parameters": place}
        header = json.dumps({"outputs": [output]}).encode()
        self.send_response(200)
        self.send_header("Inference-Header-Content-Length", str(len(header)))
        self.send_header("Content-Length", str(len(header + answered)))
        self.end_headers()
        self.wfile.write(header + answered)

    def log_message(self, *_):
        pass

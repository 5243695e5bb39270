"""The same network behind other servers, each in one file, set up as its own documentation says.

All take an encoded image as the body of a POST and answer with the five likeliest classes as JSON, except PyTriton,
which speaks Triton's protocol. They read what to serve from the environment: see :mod:`benchmarks.peers.common`.
"""

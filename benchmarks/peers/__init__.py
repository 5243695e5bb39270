"""The same network in other servers, one file each, set up as in their documentation.

All take an encoded image as the body of a POST and return the five most probable classes as JSON, except PyTriton,
which uses Triton's protocol. They read their settings from the environment: see :mod:`benchmarks.peers.common`.
"""

"""An HTTP gateway for curl and browsers: images in, JSON out.

:mod:`app` answers requests with one :class:`resnet_client.AsyncClient`, :mod:`request_checks` checks host, origin and
API key, :mod:`protocol` limits connections, ``openapi.yaml`` describes the API, :mod:`cli` is the command.
"""

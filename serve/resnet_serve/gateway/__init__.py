"""An HTTP gateway for curl and browsers: images in, JSON out.

:mod:`app` answers requests with one :class:`resnet_client.AsyncClient`, :mod:`access` checks host, origin and API key,
:mod:`protocol` limits connections, :mod:`openapi` describes the API, :mod:`cli` is the command.
"""

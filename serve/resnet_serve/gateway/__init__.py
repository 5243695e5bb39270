"""An HTTP gateway for people and browsers: images in, JSON out.

:mod:`app` answers requests with one :class:`resnet_client.AsyncClient`, :mod:`access` refuses foreign hosts and
origins, :mod:`protocol` limits what a connection may take, :mod:`openapi` describes the API, :mod:`cli` is the command.
"""

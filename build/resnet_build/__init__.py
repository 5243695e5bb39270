"""Weights in, verified Triton model repository out.

The way through the package: :mod:`weights` finds a state dict (:mod:`keras_v1` converts one of them),
:mod:`network` puts it into the network that is served, :mod:`export_torchscript` and :mod:`export_onnx`
write artifacts, :mod:`parity` compares them on real pixels, :mod:`variants` makes others in fewer bits with
:mod:`quantize` and compares their :mod:`accuracy`, :mod:`configs` renders Triton's ``config.pbtxt``, and
:mod:`repository` publishes all of it at once with the :mod:`manifest`.
:mod:`pipeline` runs these steps, :mod:`__main__` is the command ``resnet-build``.
"""

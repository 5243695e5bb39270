"""Converts the exported FP32 network to fewer bits.

:mod:`int8` makes the INT8 network, for CPUs, with the ranges that :mod:`activations` measures; :mod:`fp16` makes the
FP16 network, for GPUs. :mod:`graph` looks things up in an ONNX graph and changes them.
"""

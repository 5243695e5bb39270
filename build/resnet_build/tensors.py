"""Names and widths of the served tensors. Triton's PyTorch backend needs ``<name>__<index>``; ONNX uses the same."""

IMAGE = "IMAGE"
ENCODED = "ENCODED"
PIXELS = "PIXELS__0"
PROBABILITIES = "PROBABILITIES__0"
FEATURES = "FEATURES__1"

FEATURE_COUNT = 2048
IMAGENET_CLASSES = 1000

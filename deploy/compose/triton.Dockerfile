# NVIDIA's Triton with what the model `preprocess` imports, and nothing else.
ARG TRITON_TAG=26.09-py3
FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG}
# The second makes it faster; for ARM it has no wheels.
RUN pip install --no-cache-dir "pillow>=13,<14" "cykooz-resizer>=4.0.1,<5; platform_machine != 'aarch64'"
# The volume of TensorRT's engines takes over the owner.
RUN install -d -o 1000 /engines
USER 1000

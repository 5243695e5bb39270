# NVIDIA's Triton with the packages that the model `preprocess` imports.
ARG TRITON_TAG=26.11-py3
FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG}
# cykooz-resizer makes `preprocess` faster; it has no wheels for ARM.
RUN pip install --no-cache-dir "pillow>=13,<14" "cykooz-resizer>=4.0.1,<5; platform_machine != 'aarch64'"
# A volume for TensorRT's engines is mounted here and gets this owner.
RUN install -d -o 1000 /engines
ENV ORT_DISABLE_TELEMETRY=1
USER 1000

# NVIDIA's tritonserver from a PyPI wheel, for CPUs. EXTRA=serve-torch adds torch, for TorchScript.
FROM python:3.11-slim AS builder
WORKDIR /src
# The folder that is copied below, without pip and sources.
RUN python -m venv --without-pip /server
ENV PIP_PYTHON=/server/bin/python PIP_NO_CACHE_DIR=1
# Dependencies first: they change seldom, and take most of the time and size.
COPY constraints.txt pyproject.toml deploy/compose/requirements.py ./
ARG EXTRA=serve
# Then remove packages that the server never imports, workers for other Python versions, and OpenVINO's plugins for other
# devices and formats.
RUN python requirements.py ${EXTRA} > requirements.txt \
 && pip install --constraint constraints.txt --requirement requirements.txt \
 && pip uninstall --yes pydantic pydantic-core pyzmq sh typer wrapt \
 && cd /server/lib/python3.11/site-packages \
 && rm -r nvidia_pytriton.libs/libpython3* openvino/libs/cache.json \
 && find openvino/libs -name '*_plugin.so' ! -name '*_cpu_plugin.so' -delete \
 && find openvino/libs -name '*_frontend.so.*' ! -name '*_onnx_*' ! -name '*_ir_*' -delete \
 && find pytriton/tritonserver/python_backend_stubs -mindepth 1 -maxdepth 1 ! -name 3.11 -exec rm -r {} +
COPY README.md LICENSE ./
COPY build build
COPY serve serve
COPY client client
COPY loadtest loadtest
COPY model_repository/preprocess model_repository/preprocess
RUN pip install --no-deps .

FROM python:3.11-slim
# The workers need Python as a shared library, which is a separate package on Debian.
RUN ldconfig -p | grep -q 'libpython3[.]11[.]so[.]1' \
 || { apt-get update && apt-get install -y --no-install-recommends libpython3.11 \
   && rm -rf /var/lib/apt/lists/* /var/cache/apt; }
COPY --from=builder /server /server
ENV PATH=/server/bin:${PATH}
USER 1000
ENTRYPOINT ["resnet-serve", "--repository", "/models", "--host", "0.0.0.0"]

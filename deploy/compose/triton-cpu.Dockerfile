# The real tritonserver on a CPU, from the wheel that ships it. Without torch, unless EXTRA=serve asks for TorchScript.
FROM python:3.11-slim
WORKDIR /src
# Dependencies first: they change seldom, and are most of the time and size.
COPY constraints.txt pyproject.toml deploy/compose/requirements.py ./
ARG EXTRA=serve-onnx
RUN python requirements.py ${EXTRA} > requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE ./
COPY build build
COPY serve serve
COPY client client
COPY loadtest loadtest
COPY model_repository/preprocess model_repository/preprocess
RUN pip install --no-cache-dir --no-deps .
USER 1000
ENTRYPOINT ["resnet-serve", "--repository", "/models", "--host", "0.0.0.0"]

# The gateway: the client and an HTTP server, without torch and Triton.
FROM python:3.11-slim
WORKDIR /src
# Dependencies first: they change seldom.
COPY constraints.txt pyproject.toml deploy/compose/requirements.py ./
RUN python requirements.py gateway > requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE ./
COPY build build
COPY serve serve
COPY client client
COPY loadtest loadtest
COPY model_repository/preprocess model_repository/preprocess
RUN pip install --no-cache-dir --no-deps .
USER 1000
ENTRYPOINT ["resnet-serve", "gateway", "--host", "0.0.0.0"]

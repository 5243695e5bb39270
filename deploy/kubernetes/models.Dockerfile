# An image with the model repository, built on a machine with Internet. Pods copy the repository out of it.
#   docker build -f deploy/kubernetes/models.Dockerfile --build-arg ARGS="--weights auto --server-cpus 4" .
ARG BASE=resnet50-build:0.1.0
FROM ${BASE} AS built
ARG ARGS="--weights auto"
RUN resnet-build --repository /models --cache /cache ${ARGS}

FROM python:3.11-slim
COPY --from=built /models /models
USER 1000

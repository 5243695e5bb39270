# The image of the server pods: that of deploy/compose/triton.Dockerfile, with the watchdog and the healthcheck.
#   docker build -f deploy/kubernetes/server.Dockerfile --build-arg BASE=resnet50-triton:26.11-0.1.0 .
ARG BASE=resnet50-triton:26.11-0.1.0
FROM ${BASE}
COPY serve/resnet_serve/watchdog.py deploy/compose/healthcheck.py /opt/resnet50/
USER 1000

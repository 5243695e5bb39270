# Stands in for NVIDIA's image where that cannot be had: a `tritonserver` on PATH, with backends of its own.
ARG BUILD_IMAGE
FROM ${BUILD_IMAGE}
USER root
RUN apt-get update && apt-get install -y --no-install-recommends libpython3.11
RUN python requirements.py serve > requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt
COPY stand_in.py ./
RUN python stand_in.py /opt/backends /usr/local/bin/tritonserver
RUN install -d -o 1000 /engines
RUN install -d /opt/nvidia && printf '#!/bin/sh\nexec "$@"\n' > /opt/nvidia/nvidia_entrypoint.sh && chmod 755 /opt/nvidia/nvidia_entrypoint.sh
ENTRYPOINT []
USER 1000

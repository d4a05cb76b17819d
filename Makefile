# serve and test install what they need into .venv. They need Python 3.11 or newer with venv, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 120
SCENARIO ?= steady
URL ?= http://127.0.0.1:8000
ARTIFACT := models/artifacts/promptnaf
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
RELEASES := cpu gpu export
REPORTS := runs/release

.PHONY: serve test test-slow check format export bench bench-mixed load load-ui chaos soak fuzz gpu-report protocol \
	pictures screenshots docs lock monitoring image image-proof release $(RELEASES:%=release-%) clean

serve: $(VENV)/.serve ## start the server with the shipped model on http://127.0.0.1:8000 (CPU, no torch)
	exec env PROMPTIR_JOBS_FOLDER="$${PROMPTIR_JOBS_FOLDER-runs/jobs}" $(BIN)/promptir serve

test: check ## everything CI runs, three files at a time; installs PyTorch and the checkers once, about 2.5 GB
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile

test-slow: $(VENV)/.develop ## the paper's variant through export and TensorRT: minutes, and gigabytes of memory
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.develop ## lint, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

export: $(VENV)/.develop ## write the shipped ONNX file again from the shipped weights
	$(BIN)/promptir-export onnx --weights $(ARTIFACT)/weights.safetensors --variant promptnaf --output $(ARTIFACT)

bench: $(VENV)/.develop ## the server and a reference batcher under the same loads, with a simulated device: four minutes
	$(BIN)/python loadtests/scheduler_bench.py

load: $(VENV)/.loadtest ## locust against the server at URL: SCENARIO=spike ARGS="--seconds 30 --clients 50", docs/load-tests.md
	mkdir -p runs/load
	$(BIN)/locust -f loadtests/locust/$(SCENARIO).py --headless --only-summary --host $(URL) \
		--html runs/load/$(SCENARIO).html $(ARGS)

load-ui: $(VENV)/.loadtest ## locust's web interface on http://127.0.0.1:8089, with every scenario to choose from
	$(BIN)/locust -f loadtests/locust/locustfile.py --class-picker --web-host 127.0.0.1 --host $(URL) $(ARGS)

chaos: $(VENV)/.develop ## faults in a running server under load, and what its clients get: docs/reliability.md
	$(BIN)/python loadtests/chaos.py $(ARGS)

soak: $(VENV)/.develop ## half an hour at 80 % load: memory, threads, descriptors and p99 by the minute, ARGS="--minutes 3"
	$(BIN)/python loadtests/soak.py $(ARGS)

bench-mixed: $(VENV)/.develop ## photos of twelve sizes: single-size batches, mixed-size batches and one at a time; ten minutes
	$(BIN)/python loadtests/mixed_sizes.py

fuzz: $(VENV)/.develop ## ten thousand hostile requests, the OpenAPI document and the codec under a fuzzer: FUZZ_SECONDS=120
	$(BIN)/python loadtests/hostile.py
	SCHEMATHESIS_EXAMPLES=200 $(BIN)/python -m pytest tests/integration/test_openapi_truth.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[fuzz]"
	$(BIN)/python tests/fuzz/fuzz_image.py -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=10
	$(BIN)/python tests/fuzz/fuzz_walkers.py boxes -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10
	$(BIN)/python tests/fuzz/fuzz_walkers.py markers -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10
	$(BIN)/python tests/fuzz/fuzz_walkers.py tiles -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10

gpu-report: ## time the network on the NVIDIA GPU at hand; takes the Python whose torch sees it, PYTHON=...
	$(PYTHON) loadtests/gpu_report.py

protocol: $(VENV)/.develop ## compile the .proto files of gRPC again
	$(BIN)/python -m grpc_tools.protoc -I server/grpc --descriptor_set_out=server/grpc/protocol.binpb open_inference.proto health.proto

pictures: $(VENV)/.develop ## make the README's before/after picture again; `make serve` must run beside it
	$(BIN)/python docs/before_after.py

screenshots: $(VENV)/.develop ## make the pictures of the page again, with Chromium; `make serve` must run beside it
	$(BIN)/python docs/screenshots.py

docs: $(VENV)/.docs ## write the documentation as a site into build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: ## pin the packages of the images again, by version and hash; needs uv, ARGS=--upgrade takes newer ones
	docker/lock.sh $(ARGS)

monitoring: $(VENV)/.develop ## write the PrometheusRule and the tables of metrics and settings again
	$(BIN)/python docs/operations_tables.py
	$(BIN)/python docs/settings_tables.py

image: ## the CPU image promptir:cpu, with Docker
	docker build -f docker/Dockerfile --target serve-cpu -t promptir:cpu .

# The scan comes before the push, and the signature is put on the digest that was pushed, never on a tag.
release: $(RELEASES:%=release-%) ## build, scan, push and sign the images: REGISTRY=... ; make -n release shows how

$(RELEASES:%=release-%): release-%:
	$(if $(REGISTRY),,$(error REGISTRY is not set: make release REGISTRY=registry.example/team VERSION=$(VERSION)))
	git diff --quiet HEAD # a release is built from a commit
	mkdir -p $(REPORTS)
	docker buildx build --load --pull --file docker/Dockerfile --target $(if $(filter export,$*),export,serve-$*) \
		--label org.opencontainers.image.version=$(VERSION) \
		--label org.opencontainers.image.revision=$$(git rev-parse HEAD) \
		--label org.opencontainers.image.licenses=Apache-2.0 \
		--tag $(REGISTRY)/promptir:$(VERSION)-$* .
	trivy image --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1 $(REGISTRY)/promptir:$(VERSION)-$*
	syft scan docker:$(REGISTRY)/promptir:$(VERSION)-$* --output spdx-json=$(REPORTS)/$(VERSION)-$*.spdx.json
	docker push $(REGISTRY)/promptir:$(VERSION)-$*
	docker inspect --format '{{join .RepoDigests "\n"}}' $(REGISTRY)/promptir:$(VERSION)-$* \
		| grep '^$(REGISTRY)/promptir@' > $(REPORTS)/$(VERSION)-$*.digest
	cosign sign --yes $$(cat $(REPORTS)/$(VERSION)-$*.digest)
	cosign attest --yes --type spdxjson --predicate $(REPORTS)/$(VERSION)-$*.spdx.json \
		$$(cat $(REPORTS)/$(VERSION)-$*.digest)

image-proof: ## build and run that image without Docker: as root on Debian, with buildah and debootstrap
	docker/build_proof.sh

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; point PYTHON at one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: $(VENV)/bin/python pyproject.toml
	@echo "Installing the server and its Python client into $(VENV): about 0.4 GB, once."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cpu,heif,client]"
	touch $@

$(VENV)/.docs: $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cpu,heif,client,docs]"
	touch $@

$(VENV)/.loadtest: $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cpu,heif,client,loadtest]"
	touch $@

$(VENV)/.develop: $(VENV)/bin/python pyproject.toml
	@echo "Installing everything for development into $(VENV), PyTorch and the checkers included: about 2.5 GB, once."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable ".[cpu,heif,client,export,train,dev,docs]"
	touch $@ $(VENV)/.serve $(VENV)/.docs

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# serve and test install what they need into .venv. They need Python 3.11 or newer with venv, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 120
SCENARIO ?= steady
URL ?= http://127.0.0.1:8000
ARTIFACT := models/artifacts/promptnaf
WHEELS := runs/gpu-wheels
# pip takes a wheel for exactly one of these, and knows no order among them.
WHEEL_PLATFORMS := manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64
VERSION ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
RELEASES := cpu gpu export
REPORTS := runs/release

.PHONY: serve test test-python test-slow check format export bench bench-front bench-mixed bench-peers load load-ui chaos soak fuzz \
	gpu-window gpu-wheels protocol pictures screenshots docs lock monitoring image image-proof release $(RELEASES:%=release-%) clean

serve: $(VENV)/.serve ## start the server with the shipped model on http://127.0.0.1:8000 (CPU, no torch)
	exec env PROMPTIR_JOBS_FOLDER="$${PROMPTIR_JOBS_FOLDER-runs/jobs}" $(BIN)/promptir serve

# Tests start hundreds of servers, which would each compile the modules anew where Python may not write what it compiles.
# In their own order, the long tests come first and the short ones fill the end.
test: check ## everything CI runs, three files at a time; installs PyTorch and the checkers once, about 2.5 GB
	$(BIN)/python -m compileall -q models export server promptir_client loadtests
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

test-python: ## run `make test` under another Python, in a venv of its own: PYTHON=python3.13
	$(MAKE) test VENV=.venv-$(notdir $(PYTHON)) PYTHON=$(PYTHON)

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

bench: $(VENV)/.develop ## benchmark the server against a reference batcher on a simulated device; four minutes a round; ARGS="--rounds 5"
	$(BIN)/python loadtests/scheduler_bench.py $(ARGS)

bench-front: $(VENV)/.develop ## benchmark what the server costs an image beside a device that costs nothing; four minutes; ARGS="--seconds 1"
	$(BIN)/python loadtests/front_bench.py $(ARGS)

bench-peers: $(VENV)/.develop ## benchmark the server beside mosec, LitServe, BentoML and a script: docs/comparison.md; ARGS="--peers mosec"
	$(BIN)/python loadtests/bench_peers.py $(ARGS)

load: $(VENV)/.loadtest ## run locust against the server at URL: SCENARIO=spike ARGS="--seconds 30 --clients 50"; see docs/load-tests.md
	mkdir -p runs/load
	$(BIN)/locust -f loadtests/locust/$(SCENARIO).py --headless --only-summary --host $(URL) \
		--html runs/load/$(SCENARIO).html $(ARGS)

load-ui: $(VENV)/.loadtest ## locust's web interface on http://127.0.0.1:8089, with every scenario to choose from
	$(BIN)/locust -f loadtests/locust/locustfile.py --class-picker --web-host 127.0.0.1 --host $(URL) $(ARGS)

chaos: $(VENV)/.develop ## faults in a running server under load, and what its clients get: docs/reliability.md
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

gpu-window: ## measure everything that needs an NVIDIA GPU in nine minutes: PYTHON=... ARGS="--photos FOLDER"; see docs/gpu.md
	$(PYTHON) loadtests/gpu_window.py $(ARGS)

gpu-wheels: ## download the packages that gpu-window needs on a machine with PyTorch for Python 3.12 and no network
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
		--implementation cp $(WHEEL_PLATFORMS:%=--platform %) --dest $(WHEELS) --requirement loadtests/gpu_wheels.txt
	@du -sh $(WHEELS)

protocol: $(VENV)/.develop ## compile the gRPC .proto files
	$(BIN)/python -m grpc_tools.protoc -I server/grpc --descriptor_set_out=server/grpc/protocol.binpb open_inference.proto health.proto

pictures: $(VENV)/.develop ## regenerate the README's before/after picture; requires a running `make serve`
	$(BIN)/python docs/before_after.py

screenshots: $(VENV)/.develop ## regenerate the screenshots of the web page with Chromium; requires a running `make serve`
	$(BIN)/python docs/screenshots.py

docs: $(VENV)/.docs ## write the documentation as a site into build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: ## regenerate the images' lock files with versions and hashes; needs uv; ARGS=--upgrade updates packages
	docker/lock.sh $(ARGS)

monitoring: $(VENV)/.develop ## regenerate the PrometheusRule and the tables of metrics, settings and sizes
	$(BIN)/python docs/operations_tables.py
	$(BIN)/python docs/settings_tables.py
	$(BIN)/python docs/sizing_tables.py

image: ## build the CPU image promptir:cpu with Docker
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

# Debian's Python without python3-venv fails and leaves a venv without pip behind, which would look finished next time.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; point PYTHON at one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

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

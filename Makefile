# One door for people and for CI. Everything lives in .venv; `make clean` forgets it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ENGINES := $(VENV)/.engines

.PHONY: help install demo test check protocol bench clean
help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

install: $(STAMP) ## create .venv and install everything that is pinned

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[compiler,fleet,native,grpc,dev]'
	sh .ci/install-system-parts.sh
	touch $@

# Engines that the demo does without; the suite runs them all.
$(ENGINES): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[compiler,fleet,native,litert,openvino,tvm,ethos-u,grpc,dev]'
	touch $@

demo: $(STAMP) ## the main job on this machine: compile, roll out, drift, bad build, rollback (DEMO_ARGS=--keep leaves it running)
	$(BIN)/python -m examples.demo $(DEMO_ARGS)

# Every test passes on a busy machine, and many mostly wait: two at a time, those of one file one after the other.
test: $(ENGINES) ## the whole suite
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests

check: $(ENGINES) ## ruff, mypy --strict, layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py

GRPC_PROTOCOL := runtime/edgewright/runtime/server/v2/grpc/protocol

protocol: $(STAMP) ## the schema of the gRPC messages, from its .proto files
	$(BIN)/python -m grpc_tools.protoc -I$(GRPC_PROTOCOL) --include_imports \
		--descriptor_set_out=$(GRPC_PROTOCOL)/schema.binpb inference.proto health.proto

bench: $(ENGINES) ## every benchmark; figures go to bench/results
	@for b in $(filter-out bench/__init__.py bench/record.py,$(wildcard bench/*.py)); do \
		echo "== $$b"; $(BIN)/python -m bench.$$(basename $$b .py) $(BENCH_ARGS) || exit 1; done

clean: ## remove the environment and caches
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache

# One file of short commands. `make help` lists them; everything runs inside .venv, which `make setup` builds.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= train,export,fast,video,serve,demo,bulk,dev
BIN := $(VENV)/bin
comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
MINIMUM ?= .venv-minimum
QUICKSTART := runs/quickstart

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test minimum lint format digits bench results tables clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything that runs on this machine

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*
	@touch $@

quickstart: $(STAMP)  ## pretrain, detect, evaluate, export: the whole path on built-in data, CPU only
	rm -rf $(QUICKSTART)
	$(BIN)/python backbones/train.py --arch resnet20 --dataset digits --recipe quick --output $(QUICKSTART)/classifier
	$(BIN)/python backbones/evaluate.py --model $(QUICKSTART)/classifier --dataset digits --split test \
		--output $(QUICKSTART)/classifier/test.json
	$(BIN)/python detection/train.py --backbone resnet20 --weights $(QUICKSTART)/classifier --dataset digits \
		--recipe digits --evaluate-every 200 --output $(QUICKSTART)/detector
	$(BIN)/python detection/evaluate.py --model $(QUICKSTART)/detector --dataset digits --split test \
		--output $(QUICKSTART)/detector/test.json --report $(QUICKSTART)/report.html
	$(BIN)/python deploy/export.py --model $(QUICKSTART)/classifier --format onnx
	$(BIN)/python deploy/export.py --model $(QUICKSTART)/detector --format onnx
	$(BIN)/python detection/evaluate.py --model $(QUICKSTART)/detector/model.onnx --dataset digits --split test \
		--output $(QUICKSTART)/detector/test_onnx.json
	$(BIN)/python detection/write_digits.py --limit 12 --output $(QUICKSTART)/scenes
	$(BIN)/python detection/predict.py --model $(QUICKSTART)/detector/model.onnx $(QUICKSTART)/scenes/coco/test \
		--enlarge 4 --output $(QUICKSTART)/pictures
	$(BIN)/python tests/benchmarks/quickstart.py $(QUICKSTART)

test: $(STAMP)  ## every test that needs no GPU and is not slow, with coverage
	$(BIN)/python -m pytest --numprocesses 2 --cov --cov-report=term --cov-fail-under=90

minimum: $(MINIMUM)/.installed  ## the core's tests with the lowest versions that pyproject.toml declares
	@$(MINIMUM)/bin/python --version
	@$(MINIMUM)/bin/python -m pip freeze --exclude-editable | grep -v '^nvidia-'
	$(MINIMUM)/bin/python -m pytest --numprocesses 2 -rs tests/backbones tests/detection tests/deploy tests/test_structure.py

$(MINIMUM)/.installed: pyproject.toml constraints-minimum.txt
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-minimum.txt \
		--editable '.[train,export]' pytest pytest-xdist hypothesis
	@touch $@

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## put the code in the common form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

digits: $(STAMP)  ## write the digit scenes as files, in COCO and VOC layout, to data/digits
	$(BIN)/python detection/write_digits.py --output data/digits --overwrite

bench: $(STAMP)  ## measure speed against torchvision, as ratios
	$(BIN)/python tests/benchmarks/faster_rcnn_speed.py

results: $(STAMP) tables  ## write the tables in README and docs from results/
	$(BIN)/python results/tables.py

tables: $(STAMP)  ## write the paper's tables in docs/results.md from results/
	$(BIN)/python results/paper_tables.py

clean:  ## remove the environments and caches (not runs/)
	rm -rf $(VENV) $(MINIMUM) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*

# Every target sets up what it needs in .venv; nothing else is required than Python 3.11+, pip and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Files of tests run beside one another, each on one core; a file's own tests stay together, for what they share.
BESIDE ?= -n auto --maxprocesses 4 --dist loadfile
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow test-sharding test-slurm check golden bench predictor gpu faults clean

demo: $(VENV)/.train ## Train a tiny model end to end and show that it learned (QLORA=1: through 4-bit)
	$(BIN)/python recipes/demo/run.py $(if $(QLORA),--qlora)

test: $(VENV)/.dev ## Pass the tests (as root on Debian and Ubuntu it installs SLURM for those that need it; elsewhere they are skipped)
	@$(BIN)/python -m tests.slurm.install || true
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs $(BESIDE) $(ARGS)

test-slow: $(VENV)/.dev ## The tests that `make test` leaves out: whole runs by the command line, real disks, hangs, the demo, the wheel
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(BESIDE) $(ARGS)

test-sharding: $(VENV)/.dev ## Every cell of the compatibility table on gloo ranks: train, kill, go on, go on elsewhere, load the result
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m sharding $(ARGS)

test-slurm: $(VENV)/.dev ## Whole runs on a real SLURM cluster of four nodes on this machine (docs/slurm-lab.md); skipped, with the reason, where SLURM is not to be had
	@$(BIN)/python -m tests.slurm.install --accounting || true
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m slurm $(ARGS)

check: $(VENV)/.dev ## Style, types, import contracts
	$(BIN)/ruff format --check launcher tests benchmarks
	$(BIN)/ruff check launcher tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

golden: $(VENV)/.dev ## Rewrite golden files and generated pages; read the diff
	$(BIN)/python -m launcher.worker.trainer_schema
	$(BIN)/python -m launcher.worker.training_templates
	$(BIN)/python -m launcher.recipe.reference
	$(BIN)/python -m launcher.cluster.reference
	$(BIN)/python -m tests.plan.fits
	$(BIN)/python -m tests.plan.screens
	LAUNCHER_GOLDEN=1 $(BIN)/python -m pytest tests/recipe tests/plan tests/render tests/cli tests/corpus

bench: $(VENV)/.dev ## Measure; results go to benchmarks/results/
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.packing
	$(BIN)/python -m benchmarks.layout
	$(BIN)/python -m benchmarks.corpus
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.saving
	$(BIN)/python -m benchmarks.sharded_memory
	$(BIN)/python -m benchmarks.merge
	$(MAKE) predictor
	$(if $(LAUNCHER_DATA),$(BIN)/python -m benchmarks.prepare --data $(LAUNCHER_DATA))

predictor: $(VENV)/.dev ## Measure the memory of real trainings (about 15 minutes; what is measured already is kept) and write docs/PREDICTOR.md; ONLY=fsdp2
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.predictor $(if $(ONLY),--only "$(ONLY)")

gpu: $(VENV)/.dev ## Test and measure on one GPU (docs/gpu-suite.md); SUITE=ladder,memory DEADLINE=540
	$(BIN)/python -m pytest tests/gpu $(ARGS)
	$(BIN)/python -m benchmarks.gpu --suite $(or $(SUITE),all) --deadline $(or $(DEADLINE),3300)

faults: $(VENV)/.dev ## Kill, damage and race runs, and write docs/FAULTS.md (about 40 minutes); SIZE=ci: the short version, which writes nothing
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.run --size $(or $(SIZE),long) $(ARGS)

clean: ## Remove the environment and build leftovers; runs stay
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("launcher needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing launcher with what training needs into $(VENV) (a few minutes the first time)"
	$(PIP) -e '.[train,eval]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing launcher with what the tests need into $(VENV) (a few minutes the first time)"
	$(PIP) -e '.[train,eval,dev]'
	@touch $@ $(VENV)/.train

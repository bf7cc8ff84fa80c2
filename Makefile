# Set-up is keyed by the content of pyproject.toml and the extras: a second call costs nothing.
PYTHON ?= python3
EXTRAS ?= bench,dev,docs
STAMP := .venv/.sibx-$(EXTRAS)-$(shell cksum < pyproject.toml | cut -d ' ' -f 1)
RUN := .venv/bin/python
# The lowest Python and the lowest versions that pyproject.toml names; about 6 GB.
LOWEST_PYTHON ?= python3.11
LOWEST := .venv-lowest/.sibx-$(shell cksum < pyproject.toml | cut -d ' ' -f 1)

.PHONY: setup demo test test-lowest fuzz faults mutation notebooks benchmark docs lint clean

setup: $(STAMP)

$(STAMP):
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	@rm -f .venv/.sibx-*
	@touch $(STAMP)

demo: $(STAMP)
	$(RUN) examples/demo.py

test: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 --dist worksteal --cov --cov-report=term:skip-covered

# What oracles and extras are missing skips its tests. Old packages warn of what newer ones that they use have in mind.
test-lowest: $(LOWEST)
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest --numprocesses 2 -W ignore::DeprecationWarning

$(LOWEST):
	$(LOWEST_PYTHON) -m venv .venv-lowest
	$(LOWEST_PYTHON) .ci/lowest > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-lowest/lowest.txt \
	  --editable ".[yaml,labels,pretrained,bench,completion,lrp,segmentation,test]"
	@touch $(LOWEST)

# Twenty times as many drawn cases as in make test, and new ones every time.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=fuzz $(RUN) -m pytest tests/fuzz

# Mistakes put into the package one by one, which its tests have to notice; it goes on where it was stopped.
mutation: $(STAMP)
	$(RUN) benchmarks/mutation/mutation.py results/mutants.csv

# About an hour; the table is that of docs/results/trust.md.
faults: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m tests.faults --out docs/results/tables/faults.csv

notebooks: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m pytest --nbmake --numprocesses 2 --override-ini filterwarnings=default notebooks

benchmark: $(STAMP)
	$(RUN) benchmarks/run_all.py

docs: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN) -m sphinx -W --keep-going --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

lint: $(STAMP)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(RUN) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

clean:
	rm -rf .venv results docs/_build

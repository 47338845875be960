# `make study` and `make test` do all of their own set-up, with python3, pip and make.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: study reproduce figures redraw test test-all check validation docs docs-links format clean

study: $(VENV)/ready
	$(RUN) -m experiments.gradient_decay $(ARGS)

# All published results at their reduced sizes, and the page that tells of them.
reproduce: $(VENV)/ready
	$(RUN) -m experiments.reproduce $(ARGS)

# A file's tests are one worker's: they share programs. (Groups of xdist 3.8 are lost on pytest 9.2.)
PYTEST = $(RUN) -m pytest -n auto --dist loadfile

# The figures of docs/ from runs of their own, in half an hour; those of benchmarks are made by these.
figures: $(VENV)/ready
	$(RUN) -m experiments.reproduce --studies theory
	$(RUN) -m experiments.gradient_decay --out runs/figures/gradient_decay
	$(RUN) -m experiments.computational_graph --steps 4 --gradient-from 3 --out runs/figures/lstm
	cp runs/figures/gradient_decay/figures/decay.png docs/gradient_decay.png
	cp runs/figures/lstm/figures/unfolded.png docs/lstm_unfolded.png
	$(RUN) examples/telemetry.py --out docs/telemetry.png

# Those of the pages of verdicts, from the numbers that are kept.
redraw: $(VENV)/ready
	$(RUN) -m experiments.reproduce --redraw
	$(RUN) -m experiments.reproduce --redraw --studies theory

# The laws of drivers over time and of the laboratory against one cell of each kind of structure.
test: check
	$(PYTEST) $(ARGS)

# Those against every cell too.
test-all: check
	$(PYTEST) --all-cells $(ARGS)

check: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# What every oracle was measured at, written into its page.
validation: $(VENV)/ready
	$(RUN) -m docs.pages.validation

# The site, in build/docs: pages and examples are run, and every warning is an error.
docs: $(VENV)/ready
	$(RUN) -m sphinx -W --keep-going -b html docs build/docs

# Links that lead out of the site; needs a network.
docs-links: $(VENV)/ready
	$(RUN) -m sphinx -b linkcheck docs build/links

format: $(VENV)/ready
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# Made once, and anew when the requirements change. rnn_jax is installed in place: it is imported from
# any folder, and what is edited here counts at once.
$(VENV)/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rnn_jax needs Python 3.11 or newer; got " + sys.version.split()[0] + ". Try: make PYTHON=python3.13")'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .jax_cache build
	rm -rf docs/cells docs/reference docs/gallery docs/study

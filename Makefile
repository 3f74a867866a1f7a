# Two commands do all the set-up on a machine with Python 3.11, make and git: `make demo` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo-out

# A machine may have its 3.11 under the plain name alone.
ifeq ($(shell command -v $(PYTHON) 2>/dev/null),)
PYTHON := python3
endif

.PHONY: demo test lint format clean
.DELETE_ON_ERROR:

# The mark is newer than pyproject.toml only if that very file was installed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	touch $@

demo: $(VENV)/.installed
	rm -rf $(DEMO)
	$(BIN)/ser-bench run --plugin mean_only --corpus demo --out $(DEMO)/mean_only
	$(BIN)/ser-bench run --plugin logmel --corpus demo --out $(DEMO)/logmel
	$(BIN)/ser-bench run --plugin logmel_words --corpus demo --out $(DEMO)/logmel_words
	for run in mean_only logmel logmel_words; do \
		$(BIN)/ser-bench leaderboard add $(DEMO)/$$run --leaderboard $(DEMO)/leaderboard || exit 1; \
	done
	$(BIN)/ser-bench leaderboard render --leaderboard $(DEMO)/leaderboard

# A process for each core, up to four, of one thread each; a module's tests stay together, since they share what is made.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/ser-bench leaderboard check

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO) build dist

# The one entry point. `make book` and `make test` each do their own set-up and are safe to repeat.
#
#   make book        the website            make notebooks   executed notebooks
#   make test        all tests              make lab         Jupyter on the chapters
#   make pdf         the book as a PDF      make claims      measure every claim anew
#   make audit       the slow checks        make reference   renew the notebooks' reference output
#   make pdf-tagged  a PDF for screen readers, printed from the website by Chromium
#   make browser     a short visit to the built website in Chromium
#   make bench       timings                make lock        write the lock files from .venv
#   make lint        style and types       make tidy       write the chapters and the code as their tools do
#   make clean       remove what was built (make distclean: and the environment)
#
# Variables:  PYTHON=python3.12   the interpreter that creates .venv (3.11 or newer)
#             JOBS=4              processes for tests, claims and notebooks
#             CHAPTER=deep        make reference: only this chapter
#             LAB_ARGS="..."      extra arguments for Jupyter, e.g. --no-browser
#             PIP_ARGS="..."      extra arguments for pip, e.g. a package index with the CPU-only PyTorch

PYTHON   ?= python3
JOBS     ?= 2
CHAPTER  ?=
PIP_ARGS ?=
TESTS    ?= tests

VENV   := .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
PIP_QUIET = $(PY) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
READY  := $(VENV)/.installed
BENCH  := $(VENV)/.installed-bench
# Each of these tells in one sentence what is not as it must be.
PLACE  := cannot be written to: copy the book to a folder of your own and run make there.
OLD    := is too old: install Python 3.11 or newer and run "make PYTHON=python3.11 ...".
MOVED  := The environment in .venv was not made for this folder: run "make distclean" and try again.
TEX    := The PDF needs xelatex and latexmk: on Debian or Ubuntu run "apt-get install texlive-xetex \
texlive-latex-extra texlive-fonts-recommended tex-gyre latexmk lmodern fonts-noto-cjk fonts-dejavu-core".
FOUND  := import os, sys; from importlib.util import find_spec; found = find_spec("learning_dynamics"); \
path = os.path.realpath(found.origin if found else os.sep); \
sys.exit(not path.startswith(os.path.realpath(".") + os.sep))
home   = @$(PY) -c '$(FOUND)' || { echo '$(MOVED)' >&2; exit 1; }
# $(call say,FILE): its address, written by Python: a shell would read signs in the folder's name as its own.
say    = @$(PY) -c "from pathlib import Path; print('Open', Path('$(1)').resolve().as_uri())"

# $(call sphinx,BUILDER). Sphinx trusts what it finds in _build, also half a page or half a picture. A run
# that was cut short leaves no mark of completion, and the next one of this builder starts afresh.
# After an error all builders read the pages again, so that none hides the warning of another.
# Of what it does, a build prints a line for each page that it reads (_ext/execution_cache.py), and warnings.
define sphinx
	@test -e _build/$(1)/.complete || rm -rf _build/.doctrees _build/jupyter_execute _build/$(1)
	@rm -f _build/$(1)/.complete
	@$(BIN)/jupyter-book build . -q -n -W --keep-going --builder $(1) || { rm -rf _build/.doctrees; exit 1; }
	@touch _build/$(1)/.complete
endef

export PYTHONHASHSEED    ?= 0
# One thread a process: the kernels are small, and several processes run side by side.
export OMP_NUM_THREADS   ?= 1

# Not in the home folder, which may be read-only: Matplotlib would complain within the notebooks.
export MPLCONFIGDIR      ?= $(CURDIR)/_build/.matplotlib

.DELETE_ON_ERROR:
.PHONY: book pdf pdf-tagged browser test lint tidy notebooks lab claims reference bench audit lock clean distclean environment place

book: $(READY)
	$(home)
	$(call sphinx,html)
	@$(PY) _ext/check_site.py _build/html
	$(call say,_build/html/index.html)

pdf: $(READY)
	$(home)
	@command -v xelatex >/dev/null && command -v latexmk >/dev/null || { echo '$(TEX)' >&2; exit 1; }
	$(call sphinx,latex)
	@$(PY) _ext/check_pdf.py _build/latex
	@$(PY) _ext/site_pages.py _build
	$(call say,_build/latex/learning_dynamics.pdf)

pdf-tagged: $(READY)
	$(home)
	$(call sphinx,singlehtml)
	@$(PY) _ext/tagged_pdf.py _build/singlehtml _build/tagged/learning_dynamics.pdf
	$(call say,_build/tagged/learning_dynamics.pdf)

browser: book
	@$(PY) _ext/check_browser.py _build/html

test: $(READY)
	$(home)
	@$(PY) _ext/notebooks.py assemble _build/nbval
	$(PY) -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder --nbval $(TESTS) _build/nbval

notebooks: $(READY)
	$(call sphinx,html)
	@$(PY) _ext/notebooks.py run _build/notebooks --built --jobs $(JOBS)

tidy: $(READY)
	@$(PY) _ext/notebooks.py tidy
	$(BIN)/ruff format .

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p learning_dynamics -p paper

lab: $(READY)
	JUPYTER_CONFIG_PATH=_ext/jupyter $(BIN)/jupyter lab --LabApp.default_url=/lab/tree/chapters/index.md $(LAB_ARGS)

claims: $(READY)
	$(PY) -m paper claims --jobs $(JOBS)

reference: $(READY)
	@$(PY) _ext/notebooks.py reference $(CHAPTER) --jobs $(JOBS)

bench: $(BENCH)
	$(PY) -m pytest -o addopts="--import-mode=importlib -q" -p no:xdist benchmarks

audit: $(READY)
	$(PY) -m paper claims --jobs $(JOBS) --audit
	$(PY) -m pytest -n $(JOBS) --dist loadscope -m audit tests
	@$(MAKE) --no-print-directory bench

# The environment: rebuilt when the lock changes, otherwise ready at once. pip counts a package as installed
# although it was killed before it wrote the package's commands. So the mark of a finished installation goes
# before pip starts, and an environment without it is made anew.
environment: $(READY)

place:
	@test -w . && { test ! -e _build || test -w _build; } || { echo "$$PWD $(PLACE)" >&2; exit 1; }

$(READY): requirements.lock requirements-hashes.lock requirements-alone.lock pyproject.toml | place
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo '$(PYTHON) $(OLD)' >&2; exit 1; }
	@{ test -e $@ && $(PY) -m pip --version >/dev/null 2>&1; } || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@echo "Installing requirements.lock into $(VENV) ..."
	@$(PIP_QUIET) --no-deps --requirement requirements-hashes.lock
	@$(PIP_QUIET) --requirement requirements.lock
	@$(PIP_QUIET) --no-deps --requirement requirements-alone.lock
	@$(PIP_QUIET) --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH): $(READY) requirements-bench.lock
	@rm -f $(READY)
	$(PY) -m pip install $(PIP_ARGS) --no-deps --requirement requirements-bench.lock
	@touch $(READY)
	@touch $@

lock: $(READY)
	@$(PIP_QUIET) uv
	@PATH=$(BIN):$$PATH $(PY) _ext/lock.py

# Marks first: what a killed `rm` leaves must not look complete.
clean:
	rm -rf _build/*/.complete _build api .pytest_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(READY) $(VENV) lib/*.egg-info

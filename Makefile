# What you can do here, on Debian 12. Everything is installed into .venv; running a command again is quick.

PYTHON ?= python3
# Another Python has its own environment, such as .venv-python3.13.
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
RUN := $(VENV)/bin
FUZZ_SECONDS ?= 600
FUZZ_SEED ?=
BENCH ?=
SOAK ?=
# Releases of Debian whose Postfix `make interop` tests, unless POSTFIX names another one.
RELEASES ?= trixie sid
POSTFIX ?=

# Exact versions of everything that pip installs, what builds the program included.
export PIP_CONSTRAINT := $(CURDIR)/.ci/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without it Debian's pip runs the setup.py of pymilter itself, and warns that this is going away.
export PIP_USE_PEP517 := 1
# Where it is set, every program that a test starts would compile all its modules.
unexport PYTHONDONTWRITEBYTECODE

# Of these folders `make check` runs the tests that start no other program. With --quick, a test that starts one is skipped.
CHECKED := tests/core tests/config tests/journal tests/suppression tests/commands tests/output tests/daemon tests/deploy \
	tests/test_architecture.py tests/test_log.py tests/test_packaging.py

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-console screenshots check test dist deb test-packages interop bench fuzz soak build-packages mta-packages tools-packages \
	interop-packages bench-packages deb-packages sendmail clean

help:
	@echo "make setup   puts the program into $(VENV): $(RUN)/sidecar"
	@echo "make demo    shows the sidecar at work beside a real Postfix (as root; 40 seconds the first time, then 3)"
	@echo "make demo-console  keeps the demo running, with the console in a browser (as root, until Ctrl-C)"
	@echo "make check   runs ruff, mypy and the tests that start no other program (1 minute)"
	@echo "make test    runs all checks and tests, and measures coverage (as root, with Postfix and Sendmail; 4 minutes)"
	@echo "make deb     builds a Debian 12 package: dist/sidecar_VERSION_amd64.deb"
	@echo "make dist    builds the wheel and the source archive in dist"
	@echo "make test-packages  installs, upgrades, runs and removes the packages in Debian 12, and runs the commands of the documents (as root, 8 minutes)"
	@echo "make interop runs maddy and newer Postfixes with it (as root, with Go, some 8 minutes; RELEASES=... or POSTFIX=FOLDER for others)"
	@echo "make bench   compares its speed with no milter, no-op milters and mail filters (as root, some 30 minutes; see BENCH=--help)"
	@echo "make fuzz    looks for input that breaks a reader or a rule ($(FUZZ_SECONDS) seconds: FUZZ_SECONDS=... for another time)"
	@echo "make soak    attacks the sidecar: faults, floods, random sessions, hostile loads, a fleet (as root, some 45 minutes; see SOAK=--help)"
	@echo "make clean   removes what the others made"

setup: $(VENV)/.program
	@echo "The program is $(RUN)/sidecar."

demo: $(VENV)/.program mta-packages
	@$(RUN)/python -m tests.demo

demo-console: $(VENV)/.program mta-packages
	@$(RUN)/python -m tests.demo.console

screenshots: $(VENV)/.tools mta-packages tools-packages
	@$(RUN)/python -m tests.demo.screenshots

check: $(VENV)/.tools
	@echo "Checking style and types."
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy
	@echo "Running the tests that start no other program; \`make test\` runs all."
	@$(RUN)/pytest -q -r fE --quick -n 3 --dist worksteal -m "not mta and not daemon" $(CHECKED)

test: $(VENV)/.tools mta-packages sendmail tools-packages
	@echo "Checking style and types."
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy
	@echo "Running the tests."
	@.ci/test $(RUN)

dist: $(VENV)/.program
	@rm -f dist/sidecar-*
	@$(RUN)/python -m hatchling build --directory dist

deb: dist deb-packages
	@rm -f dist/sidecar_*
	@deploy/debian/build dist/sidecar-*.whl dist

test-packages: $(VENV)/.tools deb-packages mta-packages bench-packages
	@.ci/packages debootstrap
	@$(RUN)/pytest -q tests/packages/installed.py tests/packages/documents.py tests/packages/milters.py tests/packages/maddy_units.py

interop: $(VENV)/.tools mta-packages sendmail tools-packages interop-packages
	@tests/interop/run $(RUN) "$(POSTFIX)" $(RELEASES)

bench: $(VENV)/.tools mta-packages bench-packages
	@$(RUN)/python -m tests.bench $(BENCH)

fuzz: $(VENV)/.tools
	@$(RUN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED))

soak: $(VENV)/.tools mta-packages
	@$(RUN)/python -m tests.soak $(SOAK)

$(VENV)/bin/python: | build-packages
	@echo "Making $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV)

# Editable: the program in .venv is the one in this folder.
# What runs in production is installed by hash, and so is what builds it: pip rejects a file that is not the one that was tested. In a
# constraints file pip takes no hashes beside an editable install.
$(VENV)/.program: $(VENV)/bin/python pyproject.toml .ci/constraints.txt .ci/build.txt .ci/program.txt
	@echo "Installing the program into $(VENV)."
	@$(RUN)/pip install --quiet --require-hashes --no-deps --requirement .ci/build.txt
	@$(RUN)/pip install --quiet --require-hashes --no-deps --no-build-isolation --requirement .ci/program.txt
	@$(RUN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.program
	@echo "Installing what the tests need into $(VENV)."
	@$(RUN)/pip install --quiet --editable '.[fleet,libmilter,plots,test]'
	@touch $@

build-packages:
	@.ci/packages build "$(PYTHON)"

deb-packages:
	@.ci/packages build /usr/bin/python3

mta-packages:
	@.ci/packages mta

tools-packages:
	@.ci/packages tools

bench-packages:
	@.ci/packages bench

interop-packages:
	@.ci/packages interop

# Beside Postfix Debian's Sendmail cannot be installed, so it is only unpacked.
sendmail: mta-packages
	@.ci/packages sendmail
	@tests/mta/unpack.sh .venv/sendmail sendmail-bin sendmail-cf sasl2-bin

clean:
	@rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .bench
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Removed all environments and caches."

PYTHON ?= python3

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python

# pyenv's shims are on PATH for versions that are not active too, and then fail
# when run. The real folders go first, for those Python versions that we support.
PYENV_BINS := $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.1[0-3].*[0-9]/bin)
empty :=
space := $(empty) $(empty)
# Most of what is installed is never imported, and need not be compiled.
TOX := PIP_NO_COMPILE=1 PATH="$(subst $(space),,$(PYENV_BINS:=:))$$PATH" $(VENV_PYTHON) -m tox

# Where make install puts things: name any of them on the command line. DESTDIR goes
# before all of them, for packages. With NO_DEPS=1 the program uses the packages that
# PYTHON has, otherwise it gets its own. With SHIM=1 it takes the place of cc-shim, too.
DESTDIR :=
NO_DEPS :=
SHIM :=
PREFIX := /usr
BINDIR = $(PREFIX)/bin
LIBDIR = $(PREFIX)/lib
LIBEXECDIR = $(PREFIX)/libexec
DATADIR = $(PREFIX)/share
MANDIR = $(DATADIR)/man
DOCDIR = $(DATADIR)/doc/cc-proxy
COMPLETIONSDIR = $(DATADIR)/bash-completion/completions
SYSCONFDIR := /etc
LOCALSTATEDIR := /var
RUNDIR := /run
# Empty ones are left out. What pkg-config says is for /usr only.
PKG_CONFIG = $(if $(filter /usr,$(PREFIX)),$(shell pkg-config --variable=$1 systemd 2>/dev/null))
UNITDIR = $(or $(call PKG_CONFIG,systemdsystemunitdir),$(PREFIX)/lib/systemd/system)
TMPFILESDIR = $(if $(UNITDIR),$(or $(call PKG_CONFIG,tmpfilesdir),$(PREFIX)/lib/tmpfiles.d))
OPENRCDIR = $(if $(wildcard /sbin/openrc-run),$(SYSCONFDIR)/init.d)
PLACES := DESTDIR BINDIR LIBDIR LIBEXECDIR DATADIR MANDIR DOCDIR COMPLETIONSDIR SYSCONFDIR \
    LOCALSTATEDIR RUNDIR UNITDIR TMPFILESDIR OPENRCDIR NO_DEPS SHIM

# The load generator is a project of its own, beside this one.
BENCH_KIT := ../shared/bench
BENCH_PYTHON := $(VENV_PYTHON)
RUNS := --quick

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-more lint types format fuzz soak bench bench-full bench-growth bench-codecs install uninstall dist clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.with-runtime ## run the demo: a proxy and a pretended VM, no hypervisor needed
	$(VENV_PYTHON) ccproxy.py demo

test: $(VENV)/.with-tox ## run the tests and checks, in about three minutes
	@$(TOX) run-parallel --parallel 3 --parallel-no-spinner

test-more: $(VENV)/.with-tox ## run them under each Python, and with systemd, SELinux, a browser (see .ci/run)
	@$(TOX) run-parallel --parallel 2 --parallel-no-spinner -e system,py310,py312,py313

lint: $(VENV)/.with-tox ## check style and format
	@$(TOX) run -e lint

types: $(VENV)/.with-tox ## check the types
	@$(TOX) run -e types

format: $(VENV)/.with-tox ## put the sources in the format that lint asks for
	@$(TOX) exec -e lint -- ruff check --fix --exit-zero
	@$(TOX) exec -e lint -- ruff format

fuzz: $(VENV)/.with-tox ## fuzz everything for about 20 s; see docs/FUZZING.md for more
	@$(TOX) run -e fuzz

soak: $(VENV)/.with-runtime ## load a daemon with all there is, MINUTES=1, perhaps SEED=...
	$(VENV_PYTHON) tests/soak.py $(or $(MINUTES),1) $(SEED)

bench: .bench/built $(VENV)/.with-runtime ## measure side by side with the least that a daemon could do
	@$(BENCH_PYTHON) -m compileall -q ccproxy_lib
	@.bench/run.py $(RUNS) $(if $(ONLY),--only '$(ONLY)') limit='.bench/build/limitrelay {sock}' \
	    ccproxy='$(BENCH_PYTHON) ccproxy.py -socket-path {sock} -log error -ksm initial'

bench-full: RUNS := --full ## the same with more scenarios and three rounds, about 10 minutes
bench-full: bench

bench-growth: .bench/built $(VENV)/.with-runtime ## measure how cost grows with sessions and VMs
	@$(VENV_PYTHON) bench/growth.py .bench $(BENCH_PYTHON)

bench-codecs: $(VENV)/.with-runtime ## measure the codecs alone
	@$(VENV_PYTHON) -m pip install --quiet pyperf
	@$(VENV_PYTHON) bench/codecs.py $(or $(OPTIONS),--fast)

install: ## install program, units, man page and more; DESTDIR=, PREFIX=... as above
	@$(PYTHON) install.py install $(foreach name,$(PLACES),'$(name)=$($(name))')

uninstall: ## remove all that make install has installed, with the same variables
	@$(PYTHON) install.py uninstall $(foreach name,$(PLACES),'$(name)=$($(name))')

dist: ## make a tarball of the last commit in dist/, which needs no git
	@git rev-parse --verify --quiet HEAD >/dev/null || { echo 'make dist: this is no git checkout' >&2; exit 1; }
	@mkdir -p dist
	@release=cc-proxy-$$(sed -n 's/^VERSION = "\(.*\)"/\1/p' ccproxy_lib/version.py) && \
	    git archive --prefix=$$release/ --output=dist/$$release.tar.gz HEAD && echo dist/$$release.tar.gz

clean: ## remove all that these targets and the build tools made
	rm -rf $(VENV) .tox .bench build dist *.egg-info htmlcov .fuzz .coverage .coverage.*
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.bench/built:
	@test -e $(BENCH_KIT)/run.py || { echo 'The load generator is not in $(BENCH_KIT): say where it is with BENCH_KIT=.' >&2; exit 1; }
	@mkdir -p .bench
	@cp -R $(BENCH_KIT)/. .bench
	@$(MAKE) --silent -C .bench
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo 'ccproxy needs Python 3.10 or newer: install it, or name one with PYTHON=.' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	    { echo '$(PYTHON) cannot make virtual environments: install python3-venv (as root: apt-get install python3-venv).' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Read from setup.cfg and not by an editable install: the demo then needs no
# build tools, and starts sooner.
$(VENV)/.with-runtime: setup.cfg $(VENV)/.made
	@$(VENV_PYTHON) -c 'import configparser as c; f = c.RawConfigParser(); f.read("setup.cfg"); print(f["options"]["install_requires"])' >$(VENV)/runtime.txt
	$(VENV_PYTHON) -m pip install --quiet --requirement $(VENV)/runtime.txt
	@touch $@

$(VENV)/.with-tox: $(VENV)/.made
	$(VENV_PYTHON) -m pip install --quiet 'tox>=4.11'
	@touch $@

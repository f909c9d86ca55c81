# `make help` lists the targets.

SHELL := /bin/bash
PREFIX ?= /usr/local
DESTDIR ?=

SWIFT ?= swift
# A target may import only what Package.swift names for it.
CHECKED := --explicit-target-dependency-import-check error
# The installed program runs on hosts without a Swift toolchain.
RELEASE := -c release --static-swift-stdlib $(CHECKED)
RELEASE_BINARY := .build/release/godwit
DEBUG_BINARY := .build/debug/godwit

MAN_DIR = $(DESTDIR)$(PREFIX)/share/man/man1
BASH_DIR = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH_DIR = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISH_DIR = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
UNIT_DIR = $(DESTDIR)$(PREFIX)/lib/systemd/system

.PHONY: help demo test build debug dependencies build-dependencies install guest-program lint format \
  man fuzz bench chaos clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: dependencies build ## Move a guest between two hosts made on this machine, and compare with QEMU
	$(RELEASE_BINARY) lab run quickstart

test: dependencies ## Run all tests, unattended, from a fresh clone (installs what is missing)
	$(SWIFT) build --build-tests $(CHECKED)
	scripts/run-tests $(SWIFT) "$(CURDIR)/$(DEBUG_BINARY)"

build: build-dependencies ## Build the program (release)
	$(SWIFT) build $(RELEASE) --product godwit

debug: build-dependencies
	$(SWIFT) build $(CHECKED) --product godwit

dependencies:
	@scripts/install-dependencies.sh

build-dependencies:
	@scripts/install-dependencies.sh --build-only

install: build guest-program ## Install under PREFIX (/usr/local), below DESTDIR if set
	install -D -s -m 755 $(RELEASE_BINARY) "$(DESTDIR)$(PREFIX)/bin/godwit"
	install -D -m 755 .build/guest-workload "$(DESTDIR)$(PREFIX)/libexec/godwit/guest-workload"
	install -d "$(MAN_DIR)" "$(BASH_DIR)" "$(ZSH_DIR)" "$(FISH_DIR)" "$(UNIT_DIR)"
	install -m 644 Docs/man/*.1 "$(MAN_DIR)"
	scripts/completions $(RELEASE_BINARY) "$(BASH_DIR)" "$(ZSH_DIR)" "$(FISH_DIR)"
	for unit in share/godwit-*.service share/godwit-*.socket; do \
	  sed 's|@PREFIX@|$(PREFIX)|' $$unit > "$(UNIT_DIR)/$${unit#share/}" && \
	  chmod 644 "$(UNIT_DIR)/$${unit#share/}" || exit 1; done
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/godwit/scenarios" share/scenarios/*.toml
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/godwit/suites" share/suites/*.toml
	install -D -m 644 share/agent.toml "$(DESTDIR)$(PREFIX)/share/doc/godwit/agent.toml"

# What runs inside the lab's guests: static, because nothing else is there.
guest-program: .build/guest-workload
.build/guest-workload: $(wildcard Guest/Sources/guest-workload/*.swift Guest/Sources/guest-workload/*/*.swift)
	@mkdir -p .build
	$(SWIFT)c -O -wmo -swift-version 6 -static-executable -o $@ $^

lint: debug ## Check format, rules of the house, scripts, and that the manual is current
	scripts/lint $(DEBUG_BINARY)

format: ## Format all Swift files
	$(SWIFT) format -i -p -r $(wildcard Sources Tests Examples Guest/Sources Benchmarks Fuzz) Package.swift

man: ## Write the manual pages again after a change of the command line
	$(MAKE) debug
	rm -rf Docs/man
	$(DEBUG_BINARY) manual Docs/man

chaos: dependencies build ## Break CHAOS_RUNS (200) migrations in ways drawn from CHAOS_SEED (1); about 10 s each
	$(RELEASE_BINARY) lab faults --chaos $(or $(CHAOS_RUNS),200) --seed $(or $(CHAOS_SEED),1) \
	  --backend $(or $(CHAOS_BACKEND),memfd)

fuzz: ## Fuzz every target for a while (FUZZ_SECONDS=60 each)
	Fuzz/run.sh all $(or $(FUZZ_SECONDS),60)

bench: ## Measure the hot paths, and check instructions per page against the committed bounds
	Benchmarks/run.sh

clean: ## Remove everything that was built here
	rm -rf .build Guest/.build Fuzz/work

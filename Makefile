# The two commands that matter: `make run` and `make test`. Both install what is missing first.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help deps wheel-deps test-deps build run wheel test fuzz ct pytest e2e cluster cluster-soak lint types dialyzer xref bench soak \
	autobahn sessions docs site clean

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

deps: ## install what the project needs and this machine lacks
	@tools/deps.sh run

wheel-deps:
	@tools/deps.sh wheel

test-deps:
	@tools/deps.sh test

build: deps ## compile the Erlang application
	@tools/quiet.sh rebar3 compile

run: build ## serve the example chat at http://127.0.0.1:8000, or an app: APP=main:app DIR=.. PORT=9000
	@tools/run.sh

wheel: wheel-deps ## put the wheels of the Python package, which carry the server, into dist/
	@.venv/bin/python tools/wheel.py dist

test: test-deps ## check and test everything, and say how many tests passed
	@tools/test.sh lint types xref docs site ct+nodes dialyzer+cluster pytest+wheel e2e

SECONDS ?= 60
SEED ?=
fuzz: test-deps ## feed rubbish to all that reads, cancel all that waits: SECONDS=60 a part, SEED=n repeats
	@FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$(SEED) tools/test.sh fuzz_beam fuzz_worker fuzz_node

ct: test-deps ## run the Erlang tests (Common Test)
	@tools/test.sh ct+nodes

pytest: test-deps ## run the Python tests
	@tools/test.sh pytest

e2e: test-deps ## run the end-to-end tests: real clients, a real node, real workers
	@tools/test.sh e2e

cluster: test-deps ## run the tests of three nodes whose network is cut; root only
	@tools/test.sh cluster

lint: test-deps ## check the format of all code
	@tools/test.sh lint

types: test-deps ## check the types of the Python package (mypy)
	@tools/test.sh types

dialyzer: deps ## check the types of the Erlang application
	@tools/test.sh dialyzer

xref: deps ## look for calls to functions that do not exist
	@tools/test.sh xref

bench: wheel-deps build ## measure the server against others; takes half an hour
	@bench/run

MINUTES ?= 10
cluster-soak: test-deps build ## cut, stall and kill three nodes at random for MINUTES; root only
	@CLUSTER_SOAK=$(MINUTES) .venv/bin/python -m pytest -c python/pyproject.toml --rootdir . -s test/cluster/test_soak.py

soak: deps build ## load a node and kill its workers for MINUTES, then look for leaks
	@bench/soak --minutes $(MINUTES)

autobahn: test-deps build ## run the Autobahn cases for WebSockets on both engines; some minutes
	@.venv/bin/python test/autobahn/run.py

sessions: ## run apps that keep sessions in memory (marimo, Gradio, …), unmodified, on 4 workers; installs them
	@tools/deps.sh sessions
	@tools/test.sh sessions

docs: deps ## make the Erlang reference in doc/
	@tools/docs.sh

site: test-deps ## make the documentation's site in _build/site, and check its links
	@tools/docs.sh && .venv/bin/python tools/site.py

clean: ## remove what was built; downloaded libraries stay
	@rm -rf _build _plt dist doc logs rebar3.crashdump erl_crash.dump
	@find . \( -path ./.venv -o -path ./_debian \) -prune -o -name __pycache__ -prune -exec rm -rf {} +

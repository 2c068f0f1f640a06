# The entry point to everything. A target sets up what it needs: .venv (Python packages) and node_modules (npm packages)
# for nearly all of them, .tools (SAM CLI, checkov, pre-commit, uv) only for check, build, deploy, sam-local, rehearsal,
# hooks and lock, .runtime (Python 3.13 with what Lambda's image adds to it) only for check and bench, .rehearsal (the
# emulator of AWS) only for rehearsal. Each is made once, and again only when its lock file (or pyproject.toml) has changed.

PYTHON ?= python3
VENV := .venv/.ready
TOOLS := .tools/.ready
EMULATOR := .rehearsal/.ready
NODE := node_modules/.ready
RUNTIME := .runtime/.ready
ASL := $(wildcard statemachine/*.asl.json)
# The environment of samconfig.toml that `make build` and `make deploy` use.
ENV ?= local

export SAM_CLI_TELEMETRY = 0

# A line of shell that puts pyenv's Python 3.13 on PATH where no other one runs. It tries python3.13, because a shim of
# pyenv is on PATH also when its version is not switched on.
PYENV_PYTHON313 = $(lastword $(sort $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.13.*/bin)))
WITH_PYTHON313 = python3.13 --version >/dev/null 2>&1 || PATH="$(PYENV_PYTHON313:%=%:)$$PATH";

# What a function of the running stack has in its environment, for a command that reads the engines itself.
LAPTOP_ENGINES = SPICEDB_ENDPOINT=127.0.0.1:$(or $(SPICEDB_PORT),50051) SPICEDB_TLS=false \
	SPICEDB_TOKEN_SECRET=plain:local TEMPORAL_ADDRESS=127.0.0.1:$(or $(TEMPORAL_PORT),7233) TEMPORAL_TLS=false \
	TEMPORAL_NAMESPACE=default

.DEFAULT_GOAL := help
.PHONY: help run test explore fuzz openapi check agent token docs schema build deploy sam-local rehearsal bridge lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Each target sets up what it needs at its first run, a minute each: .venv and node_modules for run and the tests;"
	@echo ".tools (SAM CLI, checkov, pre-commit, uv) only for check, build, deploy, sam-local, rehearsal, hooks and lock;"
	@echo ".rehearsal (the emulator of AWS) only for rehearsal."

run: $(VENV) $(NODE) ## start the laptop stack and show the main job on it (ONCE=1: end after it; PERSIST=dir: keep Temporal's data; TEMPORAL_SCHEDULER=chasm; PARAMETERS="CorsOrigins=*")
	@.venv/bin/python -m local.stack

# Two processes, each with engines of its own. Tests run as well in one: ARGS="-n 0".
PYTEST = .venv/bin/python -m pytest -n 2 --dist worksteal

.PHONY: format
format: $(VENV) ## sort the imports and format the code
	.venv/bin/ruff check --select I --fix
	.venv/bin/ruff format

.PHONY: quick
quick: $(VENV) ## run the tests that need no engine: unit, contract, and the explorer's scenarios with a fault or two
	@$(PYTEST) -m "not slow and not engines" tests/unit tests/contract tests/explore/test_explorer.py $(ARGS)

test: $(VENV) $(NODE) ## run every test but the slow ones and those that need Docker (ARGS="-k name" is passed to pytest)
	@$(PYTEST) -m "not slow" $(ARGS)

.PHONY: exhaustive
exhaustive: $(VENV) $(NODE) ## run what takes minutes: every fault, every interleaving with two faults, storms, both schedulers of Temporal, many random requests
	@.venv/bin/python -m tests.exhaustive

.PHONY: coverage
coverage: $(VENV) $(NODE) ## report which branches of functions/ and layers/ the unit, contract, saga and api tests take
	@.venv/bin/coverage erase
	@.venv/bin/coverage run -m pytest -n 2 --dist worksteal -m "not slow" tests/unit tests/contract tests/saga tests/api $(ARGS)
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report

explore: $(VENV) ## run the sagas through every interleaving with up to two faults (ARGS="--faults 1")
	@.venv/bin/python -m tests.explore $(ARGS)

fuzz: $(VENV) $(NODE) ## send the HTTP API 500 random requests a route, other ones every time (EXAMPLES=5000)
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),500) $(PYTEST) --timeout 0 tests/api/test_fuzz.py $(ARGS)

openapi: $(VENV) ## write the HTTP API's specification, OpenAPI 3.1, to .local/openapi.json and validate it
	@.venv/bin/python -m tools.openapi

check: $(VENV) $(NODE) $(TOOLS) $(RUNTIME) ## lint, types, template, state machines, documents, budgets
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	node_modules/.bin/asl-validator $(ASL:%=--json-path %)
	.tools/bin/sam validate --lint
	.venv/bin/python -m tools.deployment.combinations
	.tools/bin/checkov --file template.yaml --quiet --compact --skip-download
	.venv/bin/python -m tools.diagrams --check
	.venv/bin/python -m tools.permissions_table --check
	.venv/bin/python -m tools.scale.document --check
	.venv/bin/python -m tools.links
	.venv/bin/python -m pytest -q $(BUDGETS)

# What is exact and must not grow by itself: sizes, imported modules, calls to the engines.
BUDGETS = tests/budgets tests/saga/test_calls.py tests/api/test_calls.py tests/saga/test_scale.py tests/api/test_scale.py

.PHONY: bench
bench: $(VENV) $(NODE) $(TOOLS) $(RUNTIME) ## measure this tree; table, results and plots go to docs/performance (ARGS="sizes warm": those parts)
	@.venv/bin/python -m bench $(ARGS)

agent: $(VENV) ## make OWNER the owner of AGENT on the running stack
	@.venv/bin/python -m local.stack.agent --owner "$(OWNER)" --agent "$(AGENT)"

token: $(VENV) ## print a token of the local issuer (SUBJECT=alice, ACCOUNT=, SERVICE_ACCOUNT=, SCOPE="a b", LIFETIME=3600)
	@.venv/bin/python -m local.stack.issuer --subject "$(SUBJECT)" --account "$(ACCOUNT)" --service-account "$(SERVICE_ACCOUNT)" --scope "$(SCOPE)" $(if $(LIFETIME),--lifetime $(LIFETIME))

.PHONY: doctor reconcile
doctor: $(VENV) ## show whether Temporal and SpiceDB agree on the running stack (ARGS="--explain agent--name" tells the story of one schedule)
	@$(LAPTOP_ENGINES) .venv/bin/python -m tools.doctor $(ARGS)

reconcile: $(VENV) ## repair what `make doctor` finds (ARGS="--confirm 40" allows that many repairs)
	@.venv/bin/python -m tools.doctor --repair $(ARGS)

docs: $(VENV) ## write the generated parts of docs/machines.md, docs/security.md and docs/performance.md again
	@.venv/bin/python -m tools.diagrams
	@.venv/bin/python -m tools.permissions_table
	@.venv/bin/python -m tools.scale.document

schema: $(VENV) ## merge schema/schedules.zed into the running stack's SpiceDB and show the difference
	@SPICEDB_TOKEN=local .venv/bin/python -m tools.schema --insecure --endpoint 127.0.0.1:$(or $(SPICEDB_PORT),50051) --apply

build: $(VENV) $(TOOLS) ## build with SAM, after checks (ENV=dev: for the processor that dev has in samconfig.toml; needs Python 3.13)
	@$(WITH_PYTHON313) .venv/bin/python -m tools.deployment build --env "$(ENV)"

deploy: $(VENV) $(TOOLS) ## check the parameters of ENV=dev (or prod) in samconfig.toml, build, and deploy with SAM (ARGS is passed to sam deploy)
	@$(WITH_PYTHON313) .venv/bin/python -m tools.deployment deploy --env "$(ENV)" -- $(ARGS)

# What runs in containers on this machine is built for its processor.
BUILT_HERE = $(WITH_PYTHON313) .venv/bin/python -m tools.deployment build --env local
IN_CONTAINERS = .venv/bin/python -m pytest --timeout 900 --log-cli-level=INFO --log-cli-format="%(message)s"

sam-local: $(VENV) $(NODE) $(TOOLS) lambda-image ## build with SAM and run the functions under `sam local`, compared with those in process (needs Docker and Python 3.13)
	@$(BUILT_HERE)
	@$(IN_CONTAINERS) tests/sam_local $(ARGS)

rehearsal: $(VENV) $(NODE) $(TOOLS) $(EMULATOR) lambda-image ## build with SAM, deploy into an emulator of AWS, use it, update it, delete it (needs Docker and Python 3.13)
	@$(BUILT_HERE)
	@$(IN_CONTAINERS) tests/rehearsal $(ARGS)

.PHONY: lambda-image
lambda-image: $(VENV) ## pull Lambda's image for `sam local`, or build a stand-in for it (ENGINE=dir: start a Docker engine, its files there)
	@$(WITH_PYTHON313) .venv/bin/python -m local.docker.image $(if $(ENGINE),--start-engine "$(ENGINE)")

bridge: $(VENV) ## let the containers of `sam local` reach the running stack, until Ctrl-C (Docker on Linux)
	@.venv/bin/python -m local.docker.bridge

.PHONY: hooks
hooks: $(TOOLS) ## install the git hooks of .pre-commit-config.yaml
	@.tools/bin/pre-commit install

lock: $(TOOLS) ## resolve the dependencies of pyproject.toml and package.json anew
	@sh requirements/lock

clean: ## remove everything that was built or installed
	rm -rf .venv .tools .runtime .rehearsal node_modules .aws-sam .local .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, and removed with the old environment, so a set-up that fails is tried again.
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with PYTHON=")'

$(VENV): requirements/dev.txt pyproject.toml
	@$(CHECK_PYTHON)
	@$(PYTHON) -m tools.environment .venv requirements/dev.txt
	@.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(TOOLS): requirements/tools.txt
	@$(CHECK_PYTHON)
	@$(PYTHON) -m tools.environment .tools requirements/tools.txt
	@touch $@

$(EMULATOR): requirements/rehearsal.txt
	@$(CHECK_PYTHON)
	@$(PYTHON) -m tools.environment .rehearsal requirements/rehearsal.txt
	@touch $@

$(RUNTIME): requirements/lambda-image.txt
	@$(WITH_PYTHON313) python3.13 --version >/dev/null 2>&1 || { echo "Python 3.13 is needed, which Lambda runs: put python3.13 on PATH" >&2; exit 1; }
	@$(WITH_PYTHON313) python3.13 -m tools.environment .runtime requirements/lambda-image.txt
	@touch $@

$(NODE): package-lock.json
	@echo "setting up node_modules"
	@npm ci --loglevel=error
	@touch $@

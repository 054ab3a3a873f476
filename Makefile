# Every target makes its own virtual environment from the lock; nothing but Python, make and a package index is needed.
# Variables: PYTHON, PYTHON313, PYTEST_ARGS, ARGS, KEEP, SCALE, ROUNDS, WORKLOADS, TLS, LIMIT, BASE, UPGRADE.
# For the simulator, random examples and promises: SEEDS, SEED, EXAMPLES, TESTS, NAMES.
# For the image: ENGINE, BASE, VARIABLES, IMAGE, PLATFORM, PIP_CONF, PIP_INDEX_URL, CA_BUNDLE, BUILD_OPTIONS,
# REPOSITORY.

PYTHON ?= python3
PYTHON313 ?= python3.13
VENV := .venv
VENV313 := .venv-3.13
BIN := $(VENV)/bin
# CI imports a fraction of what it installs, and Python compiles that when it is imported.
INSTALL := -m pip install --disable-pip-version-check --quiet $(if $(CI),--no-compile )--require-hashes
EDITABLE := -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
PYTEST_ARGS ?= -n 3 --dist worksteal  # half of a test is waiting for a server
SOURCES := jobs scheduler images tests
# Where it is set, each of the thousands of commands that the tests start would compile the program again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help test test-all test-rest lint pytest test-slow test-ceph test-313 test-lowest test-terraform simulate hypothesis \
	promises demo bench dist screenshots site image sbom image-push lambda container-test terraform-lock acceptance format lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The dependencies follow the lock; the project itself is installed again when pyproject.toml changes.
%/lock.stamp: requirements/dev.txt
	@echo "Making $* from requirements/dev.txt"
	@rm -rf $*
	@$(if $(filter $(VENV313),$*),$(PYTHON313),$(PYTHON)) -m venv $*
	@$*/bin/python $(INSTALL) -r requirements/dev.txt
	@touch $@

%/dev.stamp: %/lock.stamp pyproject.toml
	@$*/bin/python $(EDITABLE)
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp requirements/bench.txt
	@echo "Adding the benchmark's peers from requirements/bench.txt"
	@$(BIN)/python $(INSTALL) -r requirements/bench.txt
	@touch $@

.PRECIOUS: %/lock.stamp %/dev.stamp

# Side by side, since lint keeps one core busy, and a test that waits for a server none.
test: $(VENV)/dev.stamp ## Style, types, layers, and every test that is not slow
	@$(MAKE) --no-print-directory --jobs 2 lint pytest

test-all: ## The same, then all that takes long: slow tests, containers, promises, Ceph, Python 3.13, lowest versions, Terraform, the site
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-rest

# Two at once, the long ones first; the output of each is printed whole when it has ended. That the tests of promises pass
# without a break is known of `make test` and test-slow (PASSED).
REST := test-slow container-test promises test-ceph test-313 test-lowest test-terraform site
MISSING = $(if $(filter 0,$(shell id -u)),,test-ceph) $(if $(wildcard $(TERRAFORM_CHECK)),,test-terraform) \
	$(if $(shell $(PYTHON313) -c 'import ensurepip, venv; print(1)' 2>/dev/null),,test-313)
test-rest: $(VENV)/dev.stamp
	@$(foreach each,$(MISSING),echo "NOT RUN: $(each) needs what is not on this machine";)
	@$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync=target PYTEST_ARGS="-n 2 --dist worksteal" PASSED=1 \
		$(filter-out $(MISSING),$(REST))

lint: $(VENV)/dev.stamp ## Style, types and the layers of the design
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint images/Dockerfile

pytest: $(VENV)/dev.stamp ## The tests alone; PYTEST_ARGS="-k parts" narrows them
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow" --ignore tests/containers

test-slow: $(VENV)/dev.stamp ## The slow tests: kills, storms, whole nights and arrays, at length
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m slow --ignore tests/containers

CEPH_TESTS ?= tests/s3/contract tests/s3/test_condition_trial.py
test-ceph: $(VENV)/dev.stamp ## The contract of a Store on Ceph instead of SeaweedFS; needs its packages and root
	SEALIFT_TEST_SERVER=ceph $(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow" $(CEPH_TESTS)

# The packages whose tests need no server.
SERVERLESS := core archives aws backup checksum_reports compact expire inventory ledger nights policy reconcile replicate reports rollback \
	restore verify
# Much of their time is in a table of states, which `make test` plays, and about which Python's version says
# nothing: other tests beside them run the same code.
ANY_PYTHON := expire/test_exhaustive
test-313: $(VENV313)/dev.stamp ## The fast tests on Python 3.13, ten examples of each property
	SEALIFT_EXAMPLES=10 $(VENV313)/bin/python -m pytest $(PYTEST_ARGS) -m "not slow" $(SERVERLESS:%=tests/%) \
		$(ANY_PYTHON:%=--ignore tests/%.py)

# Where a library's version says something. The tools of the tests are of any version that goes with the lowest ones.
LOWEST := archives checksum_reports inventory ledger policy tables s3/second_opinion \
	$(addsuffix .py,test_manifests s3/test_checksums s3/test_operations s3/test_uploads)
TEST_TOOLS := pytest pytest-xdist hypothesis jsonschema trustme 'moto[s3,server]'
test-lowest: $(VENV)/dev.stamp ## Tests with the lowest versions that pyproject.toml allows, three examples of each property
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --requirements pyproject.toml
	$(BIN)/uv pip freeze --quiet --python .venv-lowest/bin/python > .venv-lowest/lowest.txt
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --constraint .venv-lowest/lowest.txt $(TEST_TOOLS)
	SEALIFT_EXAMPLES=3 .venv-lowest/bin/python -m pytest $(PYTEST_ARGS) -m "not slow" $(LOWEST:%=tests/%)

TERRAFORM_CHECK := ../shared/tools/terraform/check
test-terraform: ## Terraform's own tests, where their tool is beside the clone
	$(TERRAFORM_CHECK) terraform

# A violation prints its seed and the shortest trace found; SEED=… plays that one alone, byte for byte as before.
SEEDS ?= 20000
simulate: $(VENV)/dev.stamp ## Schedules of crashes, faults and reordering against every promise; SEEDS=… or SEED=…
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

# Random examples are new each time. CI, which asks Hypothesis for the same ones, is unset.
EXAMPLES ?= 10000
hypothesis: $(VENV)/dev.stamp ## New random examples of every property test, EXAMPLES=… of each (10000: a night); TESTS=… for some
	env -u CI SEALIFT_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n 2 --dist worksteal -o faulthandler_timeout=0 \
		-m hypothesis $(or $(TESTS),tests --ignore tests/containers)

promises: $(VENV)/dev.stamp ## A break for each promise of CONTRIBUTING.md, which a test of its line has to notice; NAMES=… for some
	$(BIN)/python -m tests.promises $(if $(PASSED),--passed) $(NAMES)

demo: $(VENV)/dev.stamp ## A replication, damaged, repaired and drilled, on this machine; KEEP=1 leaves the server running
	@KEEP=$(KEEP) $(BIN)/python -m tests.demo.demo

bench: $(VENV)/bench.stamp ## Sealift against its peers, or BASE=CHECKOUT; SCALE=0.1 ROUNDS=1 WORKLOADS=small,large TLS=1 for less, LIMIT=7200 for longer
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.benchmarks.bench

# The wheel is built from the sdist, so nothing of an earlier build gets into it.
dist: $(VENV)/dev.stamp ## dist/: a wheel and an sdist for a package index, with man pages, completion and an SBOM, checked
	@rm -rf dist share && $(BIN)/python images/manual.py share
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist .
	$(BIN)/python images/wheel_sbom.py dist/*.whl
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/check-wheel-contents dist/*.whl

# Sphinx needs other versions of what the tests need, so it has an environment of its own.
SITE_VENV := .venv-site
$(SITE_VENV)/site.stamp: requirements/site.txt
	@echo "Making $(SITE_VENV) from requirements/site.txt"
	@rm -rf $(SITE_VENV) && $(PYTHON) -m venv $(SITE_VENV)
	@$(SITE_VENV)/bin/python $(INSTALL) -r requirements/site.txt
	@touch $@

screenshots: $(VENV)/dev.stamp ## build/screenshots/: the pages of a small real world, photographed by Chromium where it is installed
	$(BIN)/python -m tests.demo.screenshots build/screenshots

site: $(SITE_VENV)/site.stamp screenshots ## build/site/: the documents as a site, with screenshots; a link that leads nowhere fails
	$(SITE_VENV)/bin/sphinx-build -q -c docs -b html -W --keep-going -d build/site-doctrees . build/site
	@cp build/site/README.html build/site/index.html

# The image. How the build reaches a package index goes in as secrets, of which no layer keeps anything.
ENGINE ?= podman
IMAGE ?= sealift
CA_BUNDLE ?= $(PIP_CERT)
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' jobs/__init__.py)
REVISION := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
TAG := $(subst +,-,$(VERSION))
comma := ,
SECRETS = $(if $(PIP_CONF),--secret id=pip.conf$(comma)src=$(PIP_CONF)) \
	$(if $(CA_BUNDLE),--secret id=ca$(comma)src=$(CA_BUNDLE)) \
	$(if $(PIP_INDEX_URL),--secret id=index$(comma)env=PIP_INDEX_URL)

# A base by tag is another image tomorrow: it is asked of its registry, and built on by the digest that is printed at the end.
IMAGE_BASE = $(or $(BASE),docker.io/library/python:3.13-slim)
image: ## The container image; BASE=name:tag or name@sha256:… PLATFORM=linux/arm64 ENGINE=docker VARIABLES=… PIP_CONF=… CA_BUNDLE=…
	@set -eu; base='$(IMAGE_BASE)'; \
	case "$$base" in *@sha256:*) ;; *) \
		$(ENGINE) pull --quiet $(if $(PLATFORM),--platform $(PLATFORM)) $(PULL_OPTIONS) "$$base" >&2; \
		base=$$($(ENGINE) image inspect --format '{{index .RepoDigests 0}}' "$$base");; \
	esac; \
	$(ENGINE) build --file images/Dockerfile --tag $(IMAGE):$(TAG) --build-arg BASE="$$base" \
		--build-arg VARIABLES="$(VARIABLES)" \
		$(if $(PLATFORM),--platform $(PLATFORM)) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		$(SECRETS) $(BUILD_OPTIONS) .; \
	echo "built on $$base"

sbom: $(VENV)/dev.stamp ## build/sbom.cdx.json, CycloneDX: the image's packages, Python's and Debian's, checked against the lock
	@mkdir -p build && $(BIN)/python images/sbom.py --engine "$(ENGINE)" --image $(IMAGE):$(TAG) --to build/sbom.cdx.json

# Terraform's repository never moves a tag. The tag has the image's own id, so that another build of this version is
# pushed beside the first one, and the same image is found there.
PUSHED_TAG = $(TAG)-$(shell $(ENGINE) image inspect --format '{{.Id}}' $(IMAGE):$(TAG) | sed 's/^sha256://' | cut -c 1-12)

# podman writes the pushed digest to a file; Docker learns it, and keeps it with the image.
image-push: ## Push the image to REPOSITORY=host/name; the last line is its reference by digest, for a job definition
	$(if $(REPOSITORY),,$(error say where to: make image-push REPOSITORY=host/name))
	@mkdir -p build && $(ENGINE) tag $(IMAGE):$(TAG) $(REPOSITORY):$(PUSHED_TAG)
ifneq ($(findstring docker,$(ENGINE)),)
	@$(ENGINE) push $(PUSH_OPTIONS) $(REPOSITORY):$(PUSHED_TAG)
	@$(ENGINE) image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' $(REPOSITORY):$(PUSHED_TAG) \
		| grep -F '$(REPOSITORY)@'
else
	@$(ENGINE) push $(PUSH_OPTIONS) --digestfile build/image.digest $(REPOSITORY):$(PUSHED_TAG)
	@echo "$(REPOSITORY)@$$(cat build/image.digest)"
endif

# Lambda's runtime has the minor version of the Python that builds: terraform/lambda.tf names python3.13.
lambda: $(VENV313)/dev.stamp ## The zips of the Lambda functions, for arm64 and x86_64, built twice and compared
	@$(VENV313)/bin/python images/package.py arm64 x86_64

container-test: $(VENV)/dev.stamp ## The image's own test: array jobs in containers, by podman, against a real S3 server
	$(BIN)/python -m pytest --override-ini faulthandler_timeout=600 tests/containers

# It needs the provider's registry, which signs the hashes; `terraform init` then refuses any other provider.
TERRAFORM ?= terraform
TERRAFORM_ROOT ?= terraform
terraform-lock: ## .terraform.lock.hcl of TERRAFORM_ROOT with the provider's hashes for Linux and macOS; commit it
	$(TERRAFORM) -chdir=$(TERRAFORM_ROOT) providers lock -platform=linux_amd64 -platform=linux_arm64 \
		-platform=darwin_amd64 -platform=darwin_arm64

acceptance: $(VENV)/dev.stamp ## Sealift in your AWS account, made, tried and destroyed; BASE=… or ARGS=--local
	@ENGINE="$(ENGINE)" TERRAFORM="$(TERRAFORM)" $(BIN)/python -m tests.acceptance $(if $(BASE),--base "$(BASE)") $(ARGS)

format: $(VENV)/dev.stamp ## Mend what ruff can mend
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

RESOLVE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	--universal --python-version 3.11
COMPILE := $(RESOLVE) pyproject.toml

lock: $(VENV)/dev.stamp ## Resolve the dependencies again; UPGRADE=1 takes newer ones
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --output-file requirements/dev.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --extra bench --constraint requirements/dev.txt \
		--output-file requirements/bench.txt
	printf 'setuptools\n' | $(COMPILE) - --constraint requirements/dev.txt --output-file requirements/image.txt
	printf 'furo\nmyst-parser\nsphinx\n' | $(RESOLVE) $(if $(UPGRADE),--upgrade) - --output-file requirements/site.txt

clean: ## Remove environments, caches and results
	rm -rf $(VENV) $(VENV313) $(SITE_VENV) .venv-lowest build dist share *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

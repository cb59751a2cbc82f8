# Two commands do all the set-up: `make demo` and `make test`.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
DEMO_ARGS := $(if $(AUTO),--auto,) $(if $(STORE),--store $(STORE),)

.PHONY: help demo test figures fuzz cloud cloud-down cloud-install terraform-test \
	packages-demo packages-test packages-cloud identity-provider drivers lambda

help:
	@echo "make demo          builds everything and starts a play ground; prints what to type"
	@echo "make demo AUTO=1   plays the whole story unattended and checks every step"
	@echo "make demo STORE=aws  the same with two gateways on DynamoDB and S3, in a LocalStack of its own"
	@echo "make test          runs every test"
	@echo "make cloud         brings up LocalStack with the stores that Terraform makes; prints how to use it"
	@echo "make cloud-down    ends it"
	@echo "make terraform-test  checks the Terraform modules, without any cloud"
	@echo "make figures       measures the figures of the README (FIGURES=\"decision requests\" only some; RELEASE=1 optimized)"
	@echo "make lambda        builds the bot as a Lambda function for x86_64 and prints the zip's size (ARCH=arm64 for the other)"
	@echo "make fuzz          feeds malformed bytes to the protocol for a minute"

# With STORE=aws it starts a LocalStack for itself, which ends with it.
demo: packages-demo $(if $(filter aws,$(STORE)),cloud-install)
	$(CARGO) build --workspace
	$(TARGET)/debug/demo $(DEMO_ARGS)

test: packages-test identity-provider drivers cloud-install terraform-test
	$(CARGO) build --workspace
	$(CARGO) test --workspace

# LocalStack in Docker where Docker runs, else on this machine; CLOUD_PORT chooses its port. Twice is as good as once.
cloud: packages-cloud
	@localstack/up.sh

cloud-down:
	@localstack/down.sh

# What tests start their own LocalStack from: without Docker, so that each can have one.
cloud-install: packages-test
	@localstack/install.sh >/dev/null

terraform-test:
	@terraform/test.sh

# Without FIGURES all: memory, decision, click, requests, recording, recovery. About fifteen minutes.
figures: packages-demo cloud-install
	$(CARGO) build --workspace $(if $(RELEASE),--release,)
	$(TARGET)/$(if $(RELEASE),release,debug)/figures $(FIGURES)

# For Amazon Linux 2023, by the zig that comes with cargo-lambda. ARCH=arm64 needs Rust's target aarch64-unknown-linux-gnu:
# `rustup target add aarch64-unknown-linux-gnu`.
LAMBDA_TARGET := $(if $(filter arm64,$(ARCH)),--arm64,--x86-64)
LAMBDA_ZIP := $(TARGET)/lambda/bootstrap/bootstrap.zip
lambda: drivers
	PATH="$(CURDIR)/tests/drivers/.venv/bin:$$PATH" CARGO_PROFILE_RELEASE_STRIP=symbols $(CARGO) lambda build --release --locked $(LAMBDA_TARGET) --output-format zip \
		--package countersign-bot --bin bootstrap --lambda-dir $(TARGET)/lambda
	@echo "$(LAMBDA_ZIP): $$(($$(wc -c <$(LAMBDA_ZIP)) / 1024)) KiB"

# Feeds mutated bytes to everything that reads what strangers send; SECONDS_MAX and SEED choose.
fuzz: packages-demo
	$(CARGO) build --workspace
	$(TARGET)/debug/fuzz $(or $(SECONDS_MAX),60) $(SEED)

packages-demo:
	@tests/install-packages.sh demo

packages-test:
	@tests/install-packages.sh test

packages-cloud:
	@tests/install-packages.sh cloud

# The certified OpenID provider of the tests, with a Node.js that is new enough for it.
identity-provider: packages-test
	cd tests/identity-provider && npm ci --ignore-scripts --no-audit --no-fund

# The drivers that the tests put through the gateway, in the versions that are named beside their scripts.
drivers: packages-test
	cd tests/drivers && npm ci --ignore-scripts --no-audit --no-fund
	test -x tests/drivers/.venv/bin/python || python3 -m venv tests/drivers/.venv
	tests/drivers/.venv/bin/python -m pip --quiet --disable-pip-version-check install --requirement tests/drivers/requirements.txt

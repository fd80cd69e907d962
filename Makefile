# Short names for what there is; nothing is built here.

SHELL := /bin/bash
COMPOSE := docker compose --profile redis --profile rabbitmq --profile adminer --profile postgres

.PHONY: help deploy clean up down logs test test-unit fmt

help: ## This list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

deploy: ## Everything on minikube
	./deploy-minikube.sh deploy

clean: ## Removes what `deploy` made
	./deploy-minikube.sh clean

up: ## Everything by Docker Compose, in the background
	docker compose up --build --detach

down: ## Stops what `up` started; data stay
	$(COMPOSE) down

logs: ## What the containers print
	$(COMPOSE) logs --follow

build-%: ## Builds one service's image, as build-ingest
	docker compose build $*

test: ## Everything that CI runs
	cargo xtask test

test-unit: ## Unit tests only, without servers
	cargo test --release --workspace --lib

fmt: ## Formats all code
	cargo fmt --all

# The project's habits. Each target installs what it needs; `make help` lists them.
SHELL := bash
.DEFAULT_GOAL := help
INVENTORY ?=
ARGS ?=
ONLY ?=
KEEP ?=
DEMO = tests/lab/demo $(if $(INVENTORY),--inventory '$(INVENTORY)') $(if $(KEEP),--keep)

.PHONY: help remediate audit rollback test lint sanity unit molecule docs bench clean clean-cache

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "INVENTORY=path: your own hosts instead of a disposable one (nothing is planted there). ARGS='--check --diff': handed to ansible-playbook."
	@echo "KEEP=1: the disposable host stays up. ONLY=unit,molecule/NAME: some of the tests."

remediate:  ## Break a disposable host as real ones are broken, repair it, show before and after
	@$(DEMO) remediate -- $(ARGS)

audit:  ## Look at a host's block AIO, change nothing
	@$(DEMO) audit -- $(ARGS)

rollback:  ## Roll a repair back, byte for byte
	@$(DEMO) rollback -- $(ARGS)

test:  ## All tests that a contributor needs, with one summary
	@tests/run $(ONLY)

lint:  ## Only the linters
	@tests/run lint

sanity:  ## Only ansible-test sanity
	@tests/run sanity

unit:  ## Only the unit and contract tests, on every Python of this machine
	@tests/run unit

molecule:  ## Only the molecule scenarios, on disposable hosts
	@tests/run molecule

docs:  ## Write docs/rules.md and docs/variables.md again from the collection's data
	@tests/lab/env && PYTHONPATH=collections .venv/bin/python docs/generate.py

bench:  ## What an observation and a build cost, as ratios measured side by side (ARGS=observe, ARGS=build, ARGS=fleet: one of them)
	@tests/bench/run $(ARGS)

clean:  ## Remove this checkout's hosts, unused images, reports and working files (the cache outside stays)
	@if command -v podman >/dev/null; then tests/lab/lab clean; fi
	@rm -rf .cache .venv build .pytest_cache .ruff_cache .hypothesis .ansible tests/output
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-cache: clean  ## The same, and the cache with environments, images and QEMU builds
	@cache=$${KATAOPS_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/kataops-aio}; \
	  [ ! -e "$$cache/installed-packages" ] || echo "packages that the lab installed stay: apt-get purge $$(sort -u "$$cache/installed-packages" | xargs)"; \
	  echo "removing $$cache"; rm -rf "$$cache"

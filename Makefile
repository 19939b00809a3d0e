# The two commands of a newcomer: `make demo` and `make test`.  Both set up all they need.

.PHONY: demo test lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     see mailgate at work before an embedded mail server (ARGS=--once ends it)"
	@echo "make test     install what the tests need, and run them"
	@echo "make lint     ruff and mypy"
	@echo "make format   let ruff format the code"

demo:
	@.ci/environment run
	@.venv/bin/mailgate demo $(ARGS)

test:
	@.ci/environment develop
	@tests/support/packages.sh
	@.venv/bin/python -m pytest -n auto --dist loadfile -q $(ARGS)

lint:
	@.ci/environment develop
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format:
	@.ci/environment develop
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What CI runs, by hand. Without make (Windows): the same commands stand in CONTRIBUTING.md.
.PHONY: check lint format types layers docstrings test bench

check: lint format types layers docstrings

lint:
	ruff check .

format:
	ruff format --check .

types:
	mypy

layers:
	lint-imports --no-cache

docstrings:
	python tools/check_docstrings.py

test:
	pytest

# Accuracy on simulated slices unseen in training; --quick tries the command in minutes.
bench:
	python benchmarks/slices.py --out slices.md

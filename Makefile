# What CI runs, by hand. Without make (Windows): the same commands stand in CONTRIBUTING.md.
.PHONY: check lint format types layers docstrings test bench docs pictures

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

# The site of the documentation, into site/: strictly, so that a link that leads nowhere is an error.
docs:
	sphinx-build -W --keep-going -b html -c docs . site

# Pictures of the documentation, and the list of settings.
pictures:
	python tools/take_pictures.py docs/images
	python tools/write_settings.py docs/reference/settings.md

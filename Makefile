# Every target builds .venv first if needed, and may be run again at any time.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo studio docs figures notebooks test test-slow check clean

demo: $(READY)
	$(BIN)/ornstein train digits --minutes 1 --out demo/run --resume
	$(BIN)/ornstein sample demo/run --count 100 --out demo/digits.png
	$(BIN)/ornstein trace demo/run --out demo/chain.png
	@echo "Look at demo/digits.png (new digits) and demo/chain.png (the forward chain and the way back)."

# The studio on the run of `make demo`, which is trained first if missing.
studio: $(READY)
	test -f demo/run/model.safetensors || $(BIN)/ornstein train digits --minutes 1 --out demo/run --resume
	$(BIN)/ornstein studio demo/run --folder demo/studio

# Two processes of a thread each; one that has nothing left to do takes half of what the other has.
test: $(READY)
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal $(ARGS)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow --timeout=1800 $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(BIN)/python -m pytest -q tests/test_architecture.py

# Any warning fails the build; nothing is fetched from the network.
docs: $(READY)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env docs docs/_build/html
	@echo "Open docs/_build/html/index.html."

# Redraw every picture of the chapter.
figures: $(READY)
	$(BIN)/python docs/build_site/figures.py

# Rebuild the notebooks from the pages.
notebooks: $(READY)
	$(BIN)/python docs/build_site/notebooks.py

# torch first: with a matching torch installed nothing below may pull another, larger build.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf .venv

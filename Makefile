# Everything runs in .venv, made from requirements.lock; nothing else of ours is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup train test test-slow test-sb3 lint lock

setup: .venv/.done

.venv/.done: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --quiet -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --editable .
	touch $@

# Trains on cartpole-swingup inside the learned simulator, then evaluates.
train: setup
	$(BIN)/python scripts/train.py --task cartpole-swingup --preset cpu --steps 50000 --logdir runs/cartpole

# memory in huge pages: dreamer_h/train/runtime.py says why
test test-slow: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

# Stable-Baselines3 brings torch and has an environment of its own; torch is found by pip alone
test-sb3: .venv-sb3/.done
	.venv-sb3/bin/python -m pytest -q tests/learned/test_learned_sb3.py tests/learned/test_learned_page.py

.venv-sb3/.done: requirements.lock pyproject.toml
	test -x .venv-sb3/bin/python || $(PYTHON) -m venv .venv-sb3
	.venv-sb3/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock torch==2.13.0 stable-baselines3==2.9.2
	.venv-sb3/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

lock:
	$(BIN)/uv pip compile -q --extra dev --universal --python-version 3.11 \
		--no-emit-index-url --upgrade pyproject.toml -o requirements.lock

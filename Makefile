# Everything runs in .venv, made from requirements.lock; nothing else of ours is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup train test test-slow test-agents lint lock

setup: .venv/.done

.venv/.done: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --quiet -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --editable .
	touch $@

# Trains manager and worker on cartpole-swingup inside the learned simulator, then evaluates.
train: setup
	$(BIN)/python scripts/train.py --task cartpole-swingup --preset cpu --levels 2 --steps 25000 --logdir runs/cartpole

# memory in huge pages: dreamer_h/train/runtime.py says why
test test-slow: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

# a worker that dies ends the tests: xdist 3.8 waits for ever for the one that replaces it (loadfile)
test: setup
	$(BIN)/python -m pytest -q -n 2 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/python -m pytest -q -n 2 --max-worker-restart 0 --dist loadfile -m slow

# Agents of other libraries have an environment of their own: Stable-Baselines3 brings torch, found
# by pip alone; gymnax asks for an older Gymnasium and works with ours, so it comes without asking.
test-agents: .venv-agents/.done
	.venv-agents/bin/python -m pytest -q tests/learned/test_learned_sb3.py tests/learned/test_train_inside.py tests/learned/test_learned_page.py

AGENTS := .venv-agents/bin/python -m pip install --quiet --disable-pip-version-check
.venv-agents/.done: requirements.lock pyproject.toml
	test -x .venv-agents/bin/python || $(PYTHON) -m venv .venv-agents
	$(AGENTS) -r requirements.lock torch==2.13.0 stable-baselines3==2.9.2 distrax==0.1.9 flax==0.12.8 seaborn==0.13.2
	$(AGENTS) --no-deps rejax==0.1.3 gymnax==1.0.1
	$(AGENTS) --no-deps --editable .
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

lock:
	$(BIN)/uv pip compile -q --extra dev --universal --python-version 3.11 \
		--no-emit-index-url --upgrade pyproject.toml -o requirements.lock

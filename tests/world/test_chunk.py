"""What a jump knows of its actions."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.nn import fsq
from dreamer_h.world.upper.chunk import MACRO, Chunk, Form, Macro

K, V, U = 4, 5, 6
FORMS: list[Form] = ["actions", "anchored", "flat"]


def make(form: Form) -> Chunk:
    return tiny.weights(lambda: Chunk(V, tiny.ACTION, K, U, form, key=jr.key(0)))


@pytest.mark.parametrize("form", FORMS)
def test_every_prefix_has_a_code_that_later_actions_do_not_change(form):
    chunk, anchor = make(form), jnp.ones(V)
    actions = jr.uniform(jr.key(1), (K, tiny.ACTION), minval=-1)
    codes = jax.vmap(chunk.code)(chunk.read(actions, anchor))
    others = jax.vmap(chunk.code)(chunk.read(actions.at[2].set(0.3), anchor))
    assert codes.shape == (K, U)
    np.testing.assert_allclose(codes[:2], others[:2], atol=1e-6)
    assert (abs(codes[2:] - others[2:]).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("form", FORMS)
def test_only_the_anchored_form_waits_for_the_anchor(form):
    chunk = make(form)
    actions = jr.uniform(jr.key(1), (K, tiny.ACTION), minval=-1)
    here, there = (chunk.of(actions, jnp.full(V, x)) for x in (0.0, 1.0))
    assert np.allclose(here, there) == (form != "anchored")


@pytest.mark.parametrize("form", FORMS)
def test_an_action_beyond_the_box_is_one_at_its_edge(form):
    chunk, anchor = make(form), jnp.ones(V)
    beyond = jr.uniform(jr.key(1), (K, tiny.ACTION), minval=-3, maxval=3)
    assert (abs(beyond) > 1).any()
    edge = chunk.of(jnp.clip(beyond, -1, 1), anchor)
    np.testing.assert_allclose(chunk.of(beyond, anchor), edge, rtol=1e-5, atol=1e-6)


def test_a_macro_code_has_five_values_each_and_passes_gradients():
    macro = tiny.weights(lambda: Macro(U, V, key=jr.key(0)), scale=2.0)
    code, anchor = jr.normal(jr.key(1), (50, U)), jr.normal(jr.key(2), (50, V))
    found = macro.encode(code, anchor)
    assert found.shape == (50, MACRO)
    assert set(np.unique(found)) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    assert set(np.unique(fsq.index(found))) == set(range(fsq.LEVELS))
    assert macro.decode(found, anchor).shape == (50, U)
    slope = jax.grad(lambda code: macro.encode(code, anchor).sum())(code)
    assert np.isfinite(slope).all() and np.any(slope)

"""What a program costs, counted from its shapes."""

import math
from typing import Any


def multiply_adds(jaxpr: Any) -> int:
    """Multiply-adds of the matrix products and convolutions of a traced program.

    Counted from shapes. XLA's own cost analysis counts the body of a loop once, however often it
    runs. Raises ValueError for products in a loop whose length is not known.
    """
    count = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            count += equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
            count += equation.outvars[0].aval.size * kernel.size // outputs
        else:
            inner = [multiply_adds(body) for body in bodies(params)]
            if name == "while" and sum(inner):
                raise ValueError("matrix products in a while loop cannot be counted from shapes")
            # a scan runs its body so many times, a cond one of its branches
            count += (
                max(inner, default=0) if name == "cond" else params.get("length", 1) * sum(inner)
            )
    return count


def bodies(params: dict[str, Any]) -> list[Any]:
    """The jaxprs among an equation's parameters."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                found.append(item)
    return found

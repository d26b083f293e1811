"""One typed door to numba: loops over arrays, compiled once, cached on disk, without the GIL.

Import it only in modules that hold kernels: loading numba takes half a second. Kernels are
compiled at set-up by ``brain doctor --compile``; the reaction path must never wait for a compiler.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of arrays and scalars in nopython mode."""
    return cast(Callable[P, R], numba.njit(cache=True, nogil=True)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A small kernel that is built into every kernel that calls it: no price for the call."""
    return cast(Callable[P, R], numba.njit(cache=True, nogil=True, inline="always")(function))

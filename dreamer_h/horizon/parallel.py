"""The same work on many cores."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

Job = TypeVar("Job")
Found = TypeVar("Found")

Progress = Callable[[Iterator[Any]], Iterable[Any]]


def spread(
    function: Callable[[Job], Found], work: list[Job], jobs: int, progress: Progress = iter
) -> list[Found]:
    """`function` of each job, in order, in `jobs` processes, or in this one if that is 1.

    `progress` wraps the iterator over what is finished, as tqdm does.
    """
    if jobs == 1:
        return list(progress(map(function, work)))
    # spawned: jax and MuJoCo hold threads and locks that a fork would copy half
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(progress(pool.map(function, work)))

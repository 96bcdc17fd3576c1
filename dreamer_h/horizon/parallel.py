"""The same work on many cores."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

Tool = TypeVar("Tool")
Job = TypeVar("Job")
Found = TypeVar("Found")

Progress = Callable[[Iterator[Any]], Iterable[Any]]


def spread(
    make: Callable[[], Tool],
    function: Callable[[Tool, Job], Found],
    work: list[Job],
    jobs: int,
    progress: Progress = iter,
) -> list[Found]:
    """`function(tool, job)` of each job, in order, in `jobs` processes; 1 is this one.

    Each process makes its own tool, once. `progress` wraps the iterator over what is finished, as
    tqdm does.
    """
    if jobs == 1 or not work:
        tool = make() if work else None
        return list(progress(function(tool, job) for job in work))  # type: ignore[arg-type]
    # spawned: jax and MuJoCo hold threads and locks that a fork would copy half
    context = get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(make,)
    ) as pool:
        return list(progress(pool.map(partial(_run, function), work)))


_tool: Any = None  # of a worker process


def _begin(make: Callable[[], Any]) -> None:
    global _tool
    _tool = make()


def _run(function: Callable[[Any, Any], Any], job: Any) -> Any:
    return function(_tool, job)

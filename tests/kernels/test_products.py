"""Products by one thread of BLAS, which has its threads back afterwards."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from sdtrt.kernels.products import one_thread


def threads() -> set[int]:
    return {one["num_threads"] for one in ThreadpoolController().select(user_api="blas").info()}


@pytest.fixture(autouse=True)
def several() -> Iterator[int]:
    """How many threads BLAS has by itself: whatever the environment says, two."""
    before = max(threads())
    _set(2)
    yield 2
    _set(before)


def _set(count: int) -> None:
    """Set the number for good, in a thread that ends: none that lives holds it."""
    setter = Thread(target=lambda: threadpool_limits(count, user_api="blas"))
    setter.start()
    setter.join()


def test_one_within_and_as_many_as_before_behind() -> None:
    assert threads() == {2}
    with one_thread:
        assert threads() == {1}
        with one_thread:
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}


def test_an_error_within_gives_them_back() -> None:
    @one_thread
    def wrong() -> None:
        np.zeros((2, 2)) @ np.zeros((3, 3))

    with pytest.raises(ValueError, match="mismatch"):
        wrong()
    assert threads() == {2}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_whoever_leaves_first(order: tuple[int, int]) -> None:
    """The first to come has set the number; another may have to set it back."""
    steps = Barrier(2)

    def work(number: int) -> None:
        if number:
            steps.wait()
        with one_thread:
            if not number:
                steps.wait()
            steps.wait()
            assert threads() == {1}
            if number == order[1]:
                steps.wait()
                assert threads() == {1}
        if number == order[0]:
            steps.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert threads() == {2}


def test_many_threads_over_and_over() -> None:
    @one_thread
    def product(number: int) -> float:
        return float((np.full((64, 64), number, np.float32) @ np.ones((64, 64), np.float32))[0, 0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(product, range(2000))) == [64.0 * number for number in range(2000)]
    assert threads() == {2}


def test_a_limit_of_others_stays() -> None:
    with threadpool_limits(1, user_api="blas"):
        with one_thread:
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}

"""Matrix products by one thread of BLAS, in a process that is sdtrt's own.

Other threads of BLAS spin for a while after each product, on cores that networks need by then: on two cores a decode of
768x512 takes a quarter to two fifths longer for it. Products here are small, so more threads gain next to nothing.
"""

from threadpoolctl import threadpool_limits


def products_by_one_thread() -> None:
    """Have BLAS use one thread from now on: for all of the process, so not for other people's."""
    threadpool_limits(1, user_api="blas")

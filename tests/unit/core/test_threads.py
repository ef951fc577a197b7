"""Many items side by side."""

import threading

import pytest

from cocuyo.core import map_in_threads


def test_what_is_found_stands_in_the_order_of_the_items():
    first_may_end = threading.Event()

    def find(item):
        if item == 0:
            first_may_end.wait(5)  # where there are threads, the others end before it
        first_may_end.set()
        return 10 * item

    assert map_in_threads(find, range(5)) == [0, 10, 20, 30, 40]


def test_an_error_in_one_item_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda item: 1 / item, [1, 0, 2])

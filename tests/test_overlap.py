import threading
import time

import pytest

from fastxai.overlap import Background, ahead, late


def test_items_come_in_order_and_bounded():
    made = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    seen = []
    for item in ahead(items(), depth=2):
        time.sleep(0.002)
        assert len(made) <= item + 1 + 2 + 1 + 1  # in use, waiting, in the maker's hand, and one just made
        seen.append(item)
    assert seen == list(range(20))


def test_errors_of_the_maker_reach_the_consumer():
    def items():
        yield 1
        raise OSError("gone")

    stream = ahead(items(), depth=1)
    assert next(stream) == 1
    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_closing_stops_the_maker():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = ahead(items(), depth=1)
    next(stream)
    stream.close()
    assert closed.is_set()


def test_background_works_in_order_and_finishes():
    seen = []
    with Background(lambda item: (time.sleep(0.001), seen.append(item)), depth=1) as work:
        for number in range(10):
            work(number)
    assert seen == list(range(10))


def test_background_passes_its_error_on():
    def fail(item):
        raise ValueError(f"item {item}")

    def many():
        with Background(fail, depth=1) as work:
            for number in range(100):
                work(number)

    with pytest.raises(ValueError, match="item 0"):
        many()


def test_background_keeps_the_error_of_the_block():
    seen = []

    def interrupted():
        with Background(seen.append) as work:
            work(1)
            raise KeyError("block")

    with pytest.raises(KeyError):
        interrupted()
    assert seen == [1]


@pytest.mark.parametrize("behind", [0, 1, 3, 30])
def test_late_items_come_in_order_and_none_is_lost(behind):
    made = []

    def items():
        for number in range(10):
            made.append(number)
            yield number

    seen = []
    for item in late(items(), behind):
        assert len(made) == min(10, item + 1 + behind)
        seen.append(item)
    assert seen == list(range(10))

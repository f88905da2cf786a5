"""Many callers, one function."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from concepthash_hf.app.batching import Batched, BusyError


@pytest.fixture
def batches():
    return []


def test_everybody_gets_their_own_answer_and_batches_form(batches):
    def double(numbers):
        batches.append(len(numbers))
        time.sleep(0.01)
        return [2 * number for number in numbers]

    batched = Batched(double, most=8)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(batched, range(200)))
    batched.close()
    assert answers == [2 * number for number in range(200)]
    assert sum(batches) == 200 and max(batches) == 8 and len(batches) < 60


def test_a_lonely_caller_does_not_wait_for_others():
    batched = Batched(lambda numbers: numbers, most=1000)
    start = time.monotonic()
    assert batched(1) == 1
    assert time.monotonic() - start < 5
    batched.close()


def test_an_error_reaches_those_of_its_batch_and_no_other():
    def careful(numbers):
        if 13 in numbers:
            raise ValueError("13 is unlucky")
        return numbers

    batched = Batched(careful, most=1)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(batched, number) for number in range(20)]
    errors = [number for number, future in enumerate(futures) if future.exception() is not None]
    assert errors == [13] and str(futures[13].exception()) == "13 is unlucky"
    assert batched(1) == 1
    batched.close()


def test_too_few_answers_are_an_error_for_who_has_none():
    batched = Batched(lambda numbers: numbers[1:], seconds=20)
    with pytest.raises(ValueError, match="shorter"):
        batched(1)
    batched.close()


class TestBusy:
    @pytest.fixture
    def gate(self):
        gate = threading.Event()
        yield gate
        gate.set()

    def test_too_many_are_turned_away_and_none_is_lost(self, gate):
        batched = Batched(lambda numbers: [gate.wait() and number for number in numbers], most=1, waiting=3)
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(batched, 0)]
            while batched.waiting:
                time.sleep(0.001)
            futures += [pool.submit(batched, number) for number in (1, 2, 3)]
            while batched.waiting < 3:
                time.sleep(0.001)
            with pytest.raises(BusyError, match="3 requests are waiting already"):
                batched(4)
            gate.set()
            assert [future.result() for future in futures] == [0, 1, 2, 3]
        batched.close()

    def test_who_has_waited_long_enough_is_told_and_not_computed_for(self, gate, batches):
        def slow(numbers):
            gate.wait()
            batches.extend(numbers)
            return numbers

        batched = Batched(slow, most=1, seconds=0.2)
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(batched, number) for number in (0, 1)]
            assert all(isinstance(future.exception(), BusyError) for future in futures)
        gate.set()
        batched.close()
        assert len(batches) == 1

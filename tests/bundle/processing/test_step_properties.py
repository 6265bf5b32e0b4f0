"""What holds for every step, on any tensors that fit it: inference is right, samples do not see each other."""

from __future__ import annotations

from typing import get_args

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.bundle.datatypes import NUMBERS
from edgewright.bundle.processing.chain import BINDERS, Chain
from edgewright.bundle.steps import Step, Steps
from tests.bundle.processing.some_steps import Case, cases, values


@settings(max_examples=250, deadline=None)
@given(case=cases, rows=st.integers(0, 4), seed=st.integers(0, 99))
def test_inference_says_what_running_gives(case: Case, rows: int, seed: int) -> None:
    step, specs = case
    chain = Chain((step,), specs, "test")
    given_arrays = {spec.name: values(spec, rows, seed) for spec in specs}
    before = {name: array.copy() for name, array in given_arrays.items()}
    found = chain.run(given_arrays)
    assert list(found) == [spec.name for spec in chain.result]
    for spec in chain.result:
        array = found[spec.name]
        assert array.shape == (rows, *spec.shape[1:])
        assert array.dtype == NUMBERS.get(spec.datatype, np.dtype(object))
        assert array.flags.c_contiguous
    for name, array in before.items():
        np.testing.assert_array_equal(array, given_arrays[name])


@settings(max_examples=250, deadline=None)
@given(case=cases, rows=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_batch_is_its_samples_to_the_bit(case: Case, rows: int, seed: int) -> None:
    step, specs = case
    chain = Chain((step,), specs, "test")
    arrays = {spec.name: values(spec, rows, seed) for spec in specs}
    together = chain.run(arrays)
    singles = [chain.run({name: array[row : row + 1] for name, array in arrays.items()}) for row in range(rows)]
    for name, array in together.items():
        alone = np.concatenate([single[name] for single in singles])
        assert array.tolist() == alone.tolist() if array.dtype == object else array.tobytes() == alone.tobytes()


@given(case=cases)
def test_steps_survive_their_json(case: Case) -> None:
    step, _ = case
    assert msgspec.json.decode(msgspec.json.encode((step,)), type=Steps) == (step,)


def test_every_step_has_code() -> None:
    assert set(BINDERS) == set(get_args(Step))

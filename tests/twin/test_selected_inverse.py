"""The diagonal of an inverse is that of the whole inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from twin.selected_inverse import factorise, inverse_diagonal


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.floats(0.0, 0.4), st.integers(0, 1000), st.floats(-3.0, 3.0))
def test_the_diagonal_is_that_of_the_dense_inverse(size: int, filled: float, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    ties = sparse.random_array((2 * size, size), density=filled, rng=rng, data_sampler=rng.standard_normal)
    matrix = sparse.csc_matrix(ties.T @ ties + sparse.diags_array(rng.uniform(0.1, 2.0, size) * 10.0**scale))
    wanted = np.diag(np.linalg.inv(matrix.toarray()))
    assert inverse_diagonal(factorise(matrix)) == pytest.approx(wanted, rel=1e-6)

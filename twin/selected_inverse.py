"""The diagonal of the inverse of a large sparse matrix, without the rest of it."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from networks.graph import Floats
from twin.selected_inverse_kernels import invert_on_pattern


def factorise(matrix: sparse.csr_array | sparse.csr_matrix | sparse.csc_matrix) -> SuperLU:
    """Factors of a symmetric positive definite matrix whose pivots stay on the diagonal."""
    return splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})


def inverse_diagonal(factors: SuperLU) -> Floats:
    """(n,) of the inverse of the matrix that `factorise` was given.

    Costs about as much as the factors, whatever part of the diagonal is wanted.
    """
    below = sparse.tril(factors.L.tocsc(), k=-1, format="csc")
    below.sort_indices()
    off_diagonal, diagonal = np.zeros(len(below.data)), np.zeros(below.shape[0])
    invert_on_pattern(
        below.indptr.astype(np.int32),
        below.indices.astype(np.int32),
        below.data,
        factors.U.diagonal(),
        off_diagonal,
        diagonal,
    )
    found: Floats = diagonal[factors.perm_c]
    return found

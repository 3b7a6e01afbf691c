"""Row edge: activation codes to fixed point and non-finite marks, as `hw/row_edge.py` makes them."""

import numpy as np
import numpy.typing as npt

from golden.codec import decode
from shiftforge.formats import Format

SPECIAL_NAN, SPECIAL_INF, SPECIAL_NEGATIVE = 1, 2, 4
"""Bits of the marks that travel with an activation. E4M3 has only the first, integers none."""


def row_edge(fmt: Format, codes: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Fixed point in units of ``2**lsb_exponent`` (0 where not finite) and marks, both of the shape of ``codes``.

    ``SPECIAL_NEGATIVE`` is the sign of every code of a format with infinities, finite or not. The format's fixed point must
    fit 64 bits, as it does for every format of the aligned accumulator.
    """
    values = decode(fmt, codes)
    finite = np.isfinite(values)
    fixed = np.where(finite, values, 0.0) * 2.0**-fmt.lsb_exponent
    special = np.zeros(values.shape, np.uint8)
    if fmt.is_float:
        special |= np.where(np.isnan(values), SPECIAL_NAN, 0).astype(np.uint8)
    if fmt.has_inf:
        special |= np.where(np.isinf(values), SPECIAL_INF, 0).astype(np.uint8)
        special |= np.where(np.asarray(codes) & fmt.sign_bit != 0, SPECIAL_NEGATIVE, 0).astype(np.uint8)
    return fixed.astype(np.int64), special

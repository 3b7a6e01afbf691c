"""Seeded faults in the numbers: each is put into a copy of the sources, and the named tests must find it."""

# ruff: noqa: E501 - one fault per line reads better

from pathlib import Path

import pytest

from tests.faults import Fault, check_found, check_passes, copy_tree, name_of, relied_on

# file, text as it is (exactly once), text as the fault makes it, tests that must fail
FAULTS: list[Fault] = [
    ("golden/rounding.py", "((one << (drop - one)) - one) + tie", "(one << (drop - one))", "golden/test_rounding.py"),
    ("golden/rounding.py", "special = magnitude >= _INF", "special = magnitude > _INF", "golden/test_rounding.py"),
    ("golden/rounding.py", "magic = np.float64(2.0 ** (fmt.lsb_exponent + 52))", "magic = np.float64(2.0 ** (fmt.lsb_exponent + 51))", "golden/test_rounding.py"),
    ("golden/rounding.py", "magnitude < np.uint64((fmt.min_exponent + 1023) << 52)", "magnitude < np.uint64((fmt.min_exponent + 1022) << 52)", "golden/test_rounding.py"),
    ("golden/rounding.py", "Flags(False, overflowed, overflowed or bool(", "Flags(False, overflowed, bool(", "golden/test_rounding.py"),
    ("golden/rounding.py", "        bad |= over\n", "        pass\n", "golden/test_rounding.py"),
    ("golden/rounding.py", "rounded = np.rint(values)", "rounded = np.floor(values + 0.5)", "golden/test_rounding.py"),
    ("golden/rounding.py", "bool((both & ~sums.nan).any())", "bool(both.any())", "golden/test_rounding.py"),
    ("golden/rounding.py", "unit = sums.lsb_exponent + exponent_bias", "unit = sums.lsb_exponent - exponent_bias", "golden/test_rounding.py"),
    ("golden/sums.py", "jammed = (magnitude & ~np.uint64(0x7FF)) | sticky", "jammed = magnitude & ~np.uint64(0x7FF)", "golden/test_rounding.py"),
    ("golden/sums.py", "room = window < 1 << 31", "room = window < 1 << 32", "golden/test_sums.py"),
    ("golden/sums.py", "sticky |= ~room & (limbs[i] != 0)", "sticky = ~room & (limbs[i] != 0)", "golden/test_rounding.py"),
    ("golden/sums.py", "limbs[i + 1] += limbs[i] >> RADIX_BITS", "limbs[i + 1] += limbs[i] // (1 << RADIX_BITS) + (limbs[i] < 0)", "golden/test_sums.py"),
    ("golden/sums.py", "(limbs[-1] < 1 << 30)", "(limbs[-1] < 1 << 31)", "golden/test_sums.py"),
    ("golden/gemm.py", "terms, dtype = ((1 << 53) - 1) // bound, np.float64", "terms, dtype = ((1 << 57) - 1) // bound, np.float64", "golden/test_gemm.py"),
    ("golden/gemm.py", "terms, dtype = ((1 << 24) - 1) // bound, np.float32", "terms, dtype = ((1 << 27) - 1) // bound, np.float32", "golden/test_gemm.py"),
    ("golden/gemm.py", "if nan.any() and not w.all():", "if False:", "golden/test_masks.py"),
    ("golden/gemm.py", "part @ (w[columns] != 0)", "part @ (w[columns] != 2)", "golden/test_masks.py"),
    ("golden/codec.py", "signs[elements & code.mask_bit != 0] = 0.0", "pass", "golden/test_masks.py"),
    ("golden/codec.py", "np.where(zero, code.mask_bit,", "np.where(zero, 0,", "golden/test_masks.py"),
    ("golden/gemm.py", "if bits < 64:", "if bits < 68:", "golden/test_gemm.py"),
    ("golden/gemm.py", "count - balance > 0", "count + balance > 0", "golden/test_gemm.py"),
    ("golden/gemm.py", "bound * k < 1 << 63", "bound * k < 1 << 66", "golden/test_gemm.py"),
    ("golden/codec.py", "np.maximum(field, 1) - 1", "field - 1", "golden/test_codec.py"),
    ("golden/codec.py", "magnitude > fmt.max_finite", "magnitude > fmt.max_finite + 1", "golden/test_codec.py"),
    ("golden/codec.py", "(shift < 0) | (shift > code.max_exponent)", "(shift < 0)", "golden/test_codec.py"),
    ("shiftforge/binary32.py", "values = canonical(values * scale)", "values = canonical(values * scale + bias) - bias", "golden/test_post.py"),
    ("shiftforge/binary32.py", "return np.where((values > 0) | nan, values, np.float32(0))", "return np.maximum(values, np.float32(-0.0))", "golden/test_post.py"),
    ("shiftforge/binary32.py", "-magnitude - 1, magnitude", "-magnitude, magnitude", "golden/test_post.py"),
    ("golden/post.py", "return codes, first | last", "return codes, last", "golden/test_post.py"),
    ("shiftforge/packing.py", 'axis=-1, bitorder="little")\n\n\ndef', 'axis=-1, bitorder="big")\n\n\ndef', "shiftforge/test_packing.py"),
    ("shiftforge/activation.py", "-(bits & ~_FP32_SIGN) - 1", "-(bits & ~_FP32_SIGN)", "shiftforge/test_activation.py"),
    ("golden/window.py", "exact = bound * len(w) < 1 << 53", "exact = True", "golden/test_window.py"),
    ("golden/window.py", "seen(up, plus) | seen(down, minus)", "seen(up, plus) | seen(down, plus)", "golden/test_window.py"),
    ("golden/window.py", "activation.lsb_exponent + int(bias)", "activation.lsb_exponent", "golden/test_window.py"),
    ("shiftforge/graph/layers.py", "np.moveaxis(by_group, 2, 3)", "by_group", "golden/test_window.py"),
    ("golden/window.py", "plus | minus", "plus", "golden/test_window.py"),
    ("golden/pool.py", "-magnitude - 1, magnitude)", "-magnitude, magnitude)", "golden/test_pool.py"),
    ("golden/window.py", "order_keys(fmt, x_codes), window, lowest)", "order_keys(fmt, x_codes), window, 0)", "golden/test_window.py"),
    ("golden/pool.py", "np.where(magnitude > largest, fmt.nan, keys)", "keys", "golden/test_pool.py"),
    ("golden/window.py", "i * d + (n - 1) * s + 1, s)", "i + (n - 1) * s + 1, s)", "golden/test_window.py"),
    ("golden/window.py", "*(step * d for step, d in zip(pixels, window.dilation, strict=True))", "*pixels", "golden/test_window.py"),
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(
        tmp_path_factory.mktemp("faults"), "golden", "shiftforge", "tests/golden", "tests/shiftforge", without=["train"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("test", relied_on(FAULTS))
def test_the_copy_passes_as_it_is(copy: Path, test: str) -> None:
    check_passes(copy, test)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_the_fault_is_found(copy: Path, fault: Fault) -> None:
    check_found(copy, fault)

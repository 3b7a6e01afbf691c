import numpy as np
import pytest

from shiftforge.arrays import load_npy, load_npz, save_npy, save_npz
from shiftforge.errors import InputError


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64", "bool"])
def test_round_trip_keeps_bits_shape_and_type(tmp_path, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    save_npy(tmp_path / "a.npy", array)
    loaded = load_npy(tmp_path / "a.npy")
    assert loaded.dtype == array.dtype
    assert loaded.tobytes() == array.tobytes()
    assert loaded.shape == (3, 4)


def test_archive_round_trip(tmp_path):
    save_npz(tmp_path / "a.npz", {"x": np.ones(3), "y": np.zeros((2, 0)), "z": np.array(1)})
    loaded = load_npz(tmp_path / "a.npz", ("x", "y"))
    assert list(loaded) == ["x", "y"]
    assert np.array_equal(loaded["x"], np.ones(3))
    assert loaded["y"].shape == (2, 0)


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"^acts must be a whole \.npy file, not '.*p\.npy' \(Object arrays"):
        load_npy(tmp_path / "p.npy", "acts")


@pytest.mark.parametrize("cut", [0, 5, 60, 130])
def test_truncated_files_are_one_sentence(tmp_path, cut):
    save_npy(tmp_path / "a.npy", np.zeros(10))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:cut])
    with pytest.raises(InputError, match=r"^acts must be a whole \.npy file, not '.*a\.npy' \([^\n]+\)$"):
        load_npy(tmp_path / "a.npy", "acts")


def test_a_truncated_archive_is_one_sentence(tmp_path):
    save_npz(tmp_path / "a.npz", {"x": np.zeros(100)})
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:300])
    with pytest.raises(InputError, match=r"^data must be a whole \.npz file"):
        load_npz(tmp_path / "a.npz", ("x",))


def test_the_other_kind_and_a_missing_name(tmp_path):
    save_npy(tmp_path / "a.npy", np.zeros(2))
    save_npz(tmp_path / "a.npz", {"x": np.zeros(2)})
    with pytest.raises(InputError, match="must be a .npz archive with x, y, not one array"):
        load_npz(tmp_path / "a.npy", ("x", "y"))
    with pytest.raises(InputError, match="must be a .npy file with one array, not the archive"):
        load_npy(tmp_path / "a.npz")
    with pytest.raises(InputError, match="must hold the array 'y'"):
        load_npz(tmp_path / "a.npz", ("x", "y"))
    with pytest.raises(InputError, match="weights must be a readable file"):
        load_npy(tmp_path / "none.npy", "weights")

"""The machine's maximum over windows: against the network's, against loops, and what it refuses."""

import numpy as np
import pytest

from golden.codec import decode, storage_dtype
from golden.pool import codes_of_keys, order_keys
from golden.window import max_pool
from shiftforge.formats import FORMATS, Format
from shiftforge.geometry import Geometry
from shiftforge.graph import Window
from shiftforge.packets import MAX_POOL_WORDS
from shiftforge.registers import Error
from tests.golden.cases import every_code, random_codes
from tests.golden.host import Host, config


def pooled(host: Host, g: Geometry, words: int, **fields: int) -> list[bytes]:
    """Run the maximum of an image of pixels of ``words`` words in page 0, into page 1 unless told otherwise."""
    cfg = host.config
    values = {
        **g.descriptor(0, cfg.activation_page, words, 1),
        "pool_kind": 1,
        "k_tail": cfg.rows,
        "n_tiles": words,
        "n_tail": 1,
        "output_address": cfg.activation_page,
        "output_stride": words,
        "to_stream": 0,
        "result_bytes": 0,
    }
    return host.layer(1, 1, 1, **{**values, **fields})


def image_of(host: Host, fmt: Format, g: Geometry, words: int, seed: int) -> np.ndarray:
    """Random codes (height, width, channels), loaded into page 0; zeros of both signs are frequent."""
    rng = np.random.default_rng([fmt.bits, seed])
    image = random_codes(fmt, (g.height, g.width, words * host.config.rows), rng)
    if fmt.is_float:
        image = np.where(rng.random(image.shape) < 0.3, rng.choice([0, fmt.sign_bit], image.shape), image)
    host.activations(image.reshape(g.height * g.width, -1))
    return image.astype(storage_dtype(fmt))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_layer_is_the_networks_max_pool(name: str, rows: int) -> None:
    """Strides, padding and dilation, pixels of several words, a page of four; every other element keeps what it held."""
    host = Host(config(rows, 2, name, name, max_k=rows, max_pool=True, pages=4, words=2048))
    fmt, page = host.config.activation, host.config.activation_page
    host.configure()
    for seed, (g, window) in enumerate(
        (
            (Geometry(7, 5, 3, 2, 2, 1, 1, 2, 1, 1, 1, 1), Window.of((2, 3), (1, 2), ((1, 1), (1, 1)), (2, 1))),
            (Geometry(4, 6, 2, 2, 2, 2), Window.of((2, 2), 2)),
            (Geometry(5, 3), Window.of((1, 1))),
        )
    ):
        words, at = 2, 3 * page + 5 + seed
        image = image_of(host, fmt, g, words, seed)
        expected = max_pool(image[None], window, fmt)[0].reshape(-1, words * rows)
        memory = host.device.memories.activations.elements
        before = memory.copy()
        assert pooled(host, g, words, output_address=at, output_stride=3) == []
        for p, pixel in enumerate(expected):
            assert np.array_equal(memory[at + 3 * p : at + 3 * p + words].reshape(-1), pixel), p
            before[at + 3 * p : at + 3 * p + words] = pixel.reshape(words, rows)
        assert np.array_equal(memory, before)
    status = host.status()
    assert (status["errors"], status["flags"]) == (0, 0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_window_outside_the_image_gives_the_lowest_value(name: str) -> None:
    host = Host(config(2, 2, name, name, max_pool=True))
    fmt = host.config.activation
    host.configure()
    g = Geometry(2, 1, 2, 1, 2, 1, pad_left=2, pad_right=2)
    host.activations(np.full((2, 2), fmt.lowest))
    assert pooled(host, g, 1) == []
    page = host.config.activation_page
    assert np.all(host.device.memories.activations.elements[page : page + 3] == fmt.lowest)
    value = decode(fmt, np.array([fmt.lowest], storage_dtype(fmt)))[0]
    assert value == (-np.inf if fmt.bits > 16 else np.nanmin(decode(fmt, every_code(fmt))))


def test_the_keys_are_in_the_order_of_the_values() -> None:
    for fmt in FORMATS.values():
        codes = every_code(fmt) if fmt.bits <= 16 else random_codes(fmt, (50000,), np.random.default_rng(0))
        keys, values = order_keys(fmt, codes), decode(fmt, codes)
        nan = np.isnan(values)
        order = np.argsort(keys[~nan], kind="stable")
        ordered = values[~nan][order]
        assert np.all(ordered[1:] >= ordered[:-1])
        assert np.array_equal(codes_of_keys(fmt, keys)[~nan], codes[~nan])
        if nan.any():
            assert set(codes_of_keys(fmt, keys)[nan].tolist()) == {fmt.nan}
            assert keys[nan].min() > keys[~nan].max()
        if fmt.is_float:
            minus, plus = order_keys(fmt, np.array([fmt.sign_bit, 0], codes.dtype))
            assert plus == minus + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"k_tail": 1},
        {"output_bank": 1},
        {"to_stream": 1},
        {"post": 1},
        {"post": 1, "residual": 1, "residual_address": 32},
        {"k_words": 0},
        {"k_words": MAX_POOL_WORDS + 1},
        {"n_tiles": 0},
        {"pixels": 0},
        {"output_address": 5},
        {"output_address": 512},
    ],
    ids=str,
)
def test_a_maximum_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    host = Host(config(2, 2, max_pool=True, residual=True))
    host.configure()
    host.activations(np.zeros((4, 2)))
    host.weights(np.zeros((2, 2), np.uint8))
    host.parameters(np.ones(2, np.float32), np.zeros(2, np.float32))
    assert pooled(host, Geometry(2, 2), 1, **wrong) == []
    assert Error(host.status()["errors"]) == Error.DESCRIPTOR


def test_a_maximum_needs_its_input_alone() -> None:
    """Neither weights nor parameters; a window may be longer than any dot product."""
    host = Host(config(2, 2, max_pool=True, max_k=2))
    host.configure()
    assert pooled(host, Geometry(2, 2), 1) == []
    assert Error(host.status(1)["errors"]) == Error.UNCOMMITTED
    host.activations(np.arange(512).reshape(256, 2))
    assert pooled(host, Geometry(16, 16, 16, 16), 1) == []
    assert host.status()["errors"] == 0
    assert host.device.memories.activations.elements[256].tolist() == [510, 511]


def test_the_kinds_to_come_are_refused() -> None:
    host = Host(config(2, 2, max_pool=True))
    host.configure()
    host.activations(np.zeros((4, 2)))
    assert pooled(host, Geometry(2, 2), 1, reserved_kind=1) == []
    assert Error(host.status()["errors"]) == Error.UNSUPPORTED

"""The configuration: defaults, derived widths, its hash, and one sentence for everything that is wrong."""

from pathlib import Path

import pytest

from shiftforge.config import ACCUMULATORS, Config, from_dict, load
from shiftforge.errors import InputError, NotBuiltError
from shiftforge.formats import FORMATS, WEIGHT_BITS

ARRAY: dict[str, object] = {
    "rows": 8,
    "cols": 8,
    "activation": "fp16",
    "output": "fp16",
    "weight_bits": 3,
    "max_k": 1024,
}


def make(**changes: object) -> Config:
    return from_dict({"array": {**ARRAY, **changes}})


def paged(pages: int, **memory: object) -> Config:
    return from_dict({"array": ARRAY, "memory": {"activation_pages": pages, **memory}})


@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("name", list(FORMATS))
def test_no_sum_can_wrap_and_no_bit_is_wasted(name: str, bits: int) -> None:
    for max_k in (1, 2, 3, 1000, 1024, 1025):
        config = make(activation=name, weight_bits=bits, max_k=max_k)
        largest = config.activation.max_fixed * 2**config.weights.max_exponent * max_k
        width = config.accumulator_bits
        assert largest < 2 ** (width - 1)
        assert largest >= 2 ** (width - 2)
        assert config.product_bits <= width


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9, 16, 256])
@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("name", ["int8", "fp8_e4m3", "fp16"])
def test_an_accumulator_holds_a_block_and_no_bit_more(name: str, bits: int, rows: int) -> None:
    """`rows` times the largest and the least that fixed point of the activation's width gives, one's complement for a minus."""
    config = make(activation=name, weight_bits=bits, rows=rows)
    end = 1 << (FORMATS[name].fixed_bits - 1 + (1 << (bits - 1)) - 1)
    half = 1 << (config.block_bits - 1)
    assert -half <= rows * -end
    assert rows * (end - 1) < half
    assert rows * -end < -half // 2, "half as much would not do"
    assert config.adder_copies == min(3, -(-config.block_bits // 8))


@pytest.mark.parametrize(
    ("rows", "cols", "lanes", "groups"),
    [(1, 1, 1, 1), (3, 5, 1, 5), (8, 8, 1, 8), (16, 16, 4, 4), (32, 32, 16, 2), (2, 256, 2, 128), (64, 64, 64, 1)],
)
def test_lanes_drain_a_tile_in_max_of_rows_and_64_cycles_where_rows_allow(
    rows: int, cols: int, lanes: int, groups: int
) -> None:
    config = make(rows=rows, cols=cols)
    assert (config.lanes, config.groups) == (lanes, groups)
    assert config.lanes <= config.rows
    assert make(rows=rows, cols=cols, lanes=lanes) == config


@pytest.mark.parametrize(("lanes", "groups"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_lanes_can_be_fewer_or_more(lanes: int, groups: int) -> None:
    config = make(lanes=lanes)
    assert (config.lanes, config.groups) == (lanes, groups)
    assert (config.hash == make().hash) == (lanes == 1)
    assert from_dict({**config.to_dict()}) == config


@pytest.mark.parametrize(("rows", "max_k"), [(1, 1), (3, 1000), (8, 1024), (7, 1)])
def test_half_of_each_memory_holds_a_tile_of_max_k(rows: int, max_k: int) -> None:
    config = make(rows=rows, max_k=max_k)
    tile = rows * config.max_k_words
    assert config.activation_words // 2 >= tile
    assert config.weight_words // 2 >= tile
    assert config.parameter_words // 2 >= config.groups


def test_the_hash_names_the_machine_and_not_the_driver() -> None:
    assert make().hash == make().hash
    assert make(overflow="saturate").hash == make().hash
    others = [make(rows=4), make(output="fp32"), make(weight_bits=2), make(max_k=1023), make(mask=True)]
    others += [make(residual=True), make(max_pool=True), *(paged(pages) for pages in (4, 8, 16))]
    assert len({make().hash, *(other.hash for other in others)}) == 11


def test_machines_without_the_later_options_keep_their_identity() -> None:
    options = {"residual": False, "max_pool": False, "mask": False, "lanes": 1}
    for accumulator, known in (("aligned", 0x7614C8EA), ("banked", 0x9586F2FE)):
        assert make(accumulator=accumulator).hash == make(accumulator=accumulator, **options).hash == known
    assert make().hash == paged(2).hash == make(accumulator="banked").hash


@pytest.mark.parametrize("pages", [2, 4, 8, 16])
def test_each_page_holds_a_tile_of_max_k(pages: int) -> None:
    config = paged(pages)
    assert config.activation_page * pages == config.activation_words == max(512, pages * 1024)
    assert config.weight_words == paged(2).weight_words
    with pytest.raises(InputError) as caught:
        paged(pages, activation_words=pages * 512)
    assert str(caught.value) == (
        f"memory.activation_words must be a power of two from {pages * 1024} ({pages} pages of one tile of K = max_k) to 131072, "
        f"not {pages * 512}"
    )


def test_a_mask_widens_the_weights_and_nothing_else() -> None:
    plain, masked = make(accumulator="aligned"), make(accumulator="aligned", mask=True)
    assert make(accumulator="aligned", mask=False) == plain
    assert (plain.weights.element_bits, masked.weights.element_bits) == (3, 4)
    assert (plain.weight_word_bits, masked.weight_word_bits) == (24, 32)
    assert masked.accumulator_bits == plain.accumulator_bits
    assert masked.to_dict()["array"]["mask"] is True
    # The machine without masks keeps the identity that it had before there were masks.
    assert plain.hash == 0x7614C8EA


def test_what_is_resolved_reads_back() -> None:
    for config in (
        make(activation="int8", output="fp32"),
        make(mask=True),
        make(residual=True, max_pool=True),
        paged(8),
    ):
        resolved: dict[str, object] = {**config.to_dict()}
        assert from_dict(resolved) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "array.rows must be 1..256, not 0"),
        ({"cols": 257}, "array.cols must be 1..256, not 257"),
        ({"max_k": 0}, "array.max_k must be 1..65536, not 0"),
        ({"rows": 1, "max_k": 65536}, "array.max_k must be at most 65535 with 1 rows, not 65536"),
        ({"weight_bits": 5}, "weight_bits must be 2, 3 or 4, not 5"),
        ({"rows": "8"}, "array.rows must be an integer, not '8'"),
        ({"rows": True}, "array.rows must be an integer, not True"),
        ({"activation": 16}, "array.activation must be a string, not 16"),
        ({"mask": 1}, "array.mask must be true or false, not 1"),
        ({"residual": 1}, "array.residual must be true or false, not 1"),
        ({"maxpool": True}, "key array.maxpool is unknown; did you mean 'max_pool'?"),
        ({"mask": "yes"}, "array.mask must be true or false, not 'yes'"),
        (
            {"activation": "fp12"},
            "format must be one of fp32, fp16, bf16, fp8_e5m2, fp8_e4m3, int8, int16, not 'fp12'",
        ),
        ({"overflow": "wrap"}, "array.overflow must be 'inf' or 'saturate', not 'wrap'"),
        ({"accumulator": "exact"}, "array.accumulator must be 'aligned' or 'banked', not 'exact'"),
        ({"lanes": 0}, "array.lanes must be a power of two from 1 to 8 (8 rows, 8 columns), not 0"),
        ({"lanes": 3}, "array.lanes must be a power of two from 1 to 8 (8 rows, 8 columns), not 3"),
        ({"cols": 5, "lanes": 8}, "array.lanes must be a power of two from 1 to 4 (8 rows, 5 columns), not 8"),
        ({"collumns": 8}, "key array.collumns is unknown; did you mean 'cols'?"),
    ],
)
def test_a_wrong_value_is_one_sentence(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        make(**changes)
    assert str(caught.value) == message


def test_what_is_not_built_yet_is_said() -> None:
    with pytest.raises(NotBuiltError, match="in this version"):
        make(k_bias_bits=2)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_an_accumulator(name: str) -> None:
    default = make(activation=name)
    assert default.accumulator == ("aligned" if name in ("int8", "int16", "fp8_e4m3") else "banked")
    assert make(activation=name, accumulator=default.accumulator) == default
    assert len({make(activation=name, accumulator=which).hash for which in ACCUMULATORS}) == 2


@pytest.mark.parametrize(
    ("activation", "accumulator", "message"),
    [
        (
            "bf16",
            "aligned",
            "must be 'banked' for hardware with bf16 activations, not 'aligned'; the golden backend runs it",
        ),
        (
            "int8",
            "banked",
            "must be 'aligned' for hardware with int8 activations, not 'banked'; the golden backend runs it",
        ),
        (
            "fp32",
            "aligned",
            "must be 'banked' for hardware with fp32 activations, not 'aligned'; the golden backend runs it",
        ),
    ],
)
def test_a_pair_without_gateware_names_one_that_has_it(activation: str, accumulator: str, message: str) -> None:
    config = make(activation=activation, accumulator=accumulator)
    with pytest.raises(NotBuiltError) as caught:
        config.require_hardware()
    assert str(caught.value) == f"array.accumulator {message}"


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_pair_but_these_is_built(name: str, accumulator: str) -> None:
    missing = [("int8", "banked"), ("int16", "banked"), ("bf16", "aligned"), ("fp32", "aligned")]
    config = make(activation=name, accumulator=accumulator)
    if (name, accumulator) in missing:
        with pytest.raises(NotBuiltError):
            config.require_hardware()
    else:
        config.require_hardware()


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
def test_both_accumulators_have_every_option(accumulator: str) -> None:
    make(accumulator=accumulator, mask=True, residual=True, max_pool=True).require_hardware()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"arry": {}}, "section [arry] is unknown; did you mean 'array'?"),
        ({"array": 3}, "array must be a table, written as [array], not 3"),
        (
            {"array": {**ARRAY}, "interface": {"stream_bits": 48}},
            "interface.stream_bits must be one of 32, 64, 128, not 48",
        ),
        (
            {"array": {**ARRAY}, "memory": {"weight_words": 3000}},
            "memory.weight_words must be a power of two from 2048 (two halves of one tile of K = max_k) to 131072, not 3000",
        ),
        (
            {"array": {**ARRAY}, "memory": {"activation_pages": 3}},
            "memory.activation_pages must be one of 2, 4, 8, 16, not 3",
        ),
        ({"array": {"rows": 8}}, "array.cols must be given, and the configuration lacks it"),
    ],
)
def test_a_wrong_table_is_one_sentence(data: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_dict(data)
    assert str(caught.value) == message


def test_a_file_is_named_in_its_error(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    with pytest.raises(InputError, match=r"c\.toml must be a readable file: No such file"):
        load(path)
    path.write_text("[array\n")
    with pytest.raises(InputError, match=r"c\.toml must be TOML"):
        load(path)
    path.write_text("[array]\nrows = 0\n")
    with pytest.raises(InputError, match=r"c\.toml: array.cols must be given"):
        load(path)

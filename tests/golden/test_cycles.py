"""The cycle model by itself: schedules worked out by hand, counters, patterns (tests/sim/test_machine.py has the gateware)."""

import time

import numpy as np
import pytest

from golden.cycles import predict
from golden.decoder import Layer
from golden.emulator import EmulatorTransport
from golden.engine import tile_latency
from golden.schedule import Output, run_layer
from shiftforge import timing
from shiftforge.banks import Banks
from shiftforge.config import ALIGNED_FORMATS, Config, ceil_div, from_dict
from shiftforge.errors import InputError
from shiftforge.packets import Header, Opcode, decode_layer, decode_status, encode_layer, memory_ports, packet
from shiftforge.transport import random_pattern


def config(
    rows: int = 2,
    cols: int = 3,
    stream_bits: int = 64,
    output: str = "fp32",
    max_k: int = 40,
    activation: str = "fp16",
    pages: int = 2,
    residual: bool = False,
    max_pool: bool = False,
    accumulator: str = "",
) -> Config:
    return from_dict(
        {
            "array": {
                "rows": rows,
                "cols": cols,
                "activation": activation,
                "output": output,
                "weight_bits": 3,
                "max_k": max_k,
                "residual": residual,
                "max_pool": max_pool,
                "accumulator": accumulator or ("aligned" if activation in ALIGNED_FORMATS else "banked"),
            },
            "memory": {"activation_pages": pages},
            "interface": {"stream_bits": stream_bits},
        }
    )


def send(cfg: Config, opcode: Opcode, payload: bytes = b"", address: int = 0) -> bytes:
    return packet(Header(opcode, 7, address, len(payload)), payload, cfg.stream_bits)


def load(cfg: Config, index: int, words: int, address: int = 0) -> bytes:
    port = memory_ports(cfg)[index]
    return send(cfg, port.opcode, bytes(words * port.stride_bits // 8), address)


def setup(cfg: Config) -> list[bytes]:
    return [
        send(cfg, Opcode.CONFIG, cfg.hash.to_bytes(4, "little")),
        *(load(cfg, index, 1, half * memory_ports(cfg)[index].page) for index in range(3) for half in (0, 1)),
    ]


def layer(cfg: Config, **fields: int) -> bytes:
    base = {"pixels": 1, "k_words": 1, "k_tail": 1, "n_tiles": 1, "n_tail": 1, "to_stream": 1, "result_bytes": 4}
    return send(cfg, Opcode.LAYER, encode_layer({**base, **fields}))


def test_an_unknown_packet_takes_its_beats_and_the_check() -> None:
    cfg = config()
    bad = packet(Header(99, 1, 0, 16), bytes(16), 64)
    ask = send(cfg, Opcode.STATUS)
    got = predict(cfg, [bad, ask])
    # Two header beats, two cycles of checks, two beats to drain; the next header at once; status: 2 + 6 beats of 64 bits.
    assert got.input_beats.tolist() == [0, 1, 4, 5, 6, 7]
    assert got.output_beats.tolist() == [11, 12, 13, 14, 15, 16, 17, 18]
    assert got.cycles == 19


@pytest.mark.parametrize("stream_bits", [32, 64, 128])
def test_loading_is_one_word_or_one_beat_a_cycle(stream_bits: int) -> None:
    """The scarcer one: 9-bit weight words in 16 bits, 64-bit parameters, 32-bit activations."""
    cfg = config(stream_bits=stream_bits)
    ask = send(cfg, Opcode.STATUS)
    for index in range(3):
        stride = memory_ports(cfg)[index].stride_bits
        beats = predict(cfg, [load(cfg, index, 32), ask]).input_beats
        header = 128 // stream_bits
        payload = beats[header : header + 32 * stride // stream_bits]
        assert set(np.diff(payload)) == {max(1, stream_bits // stride)}
        assert payload[0] == header - 1 + 3


def test_a_layer_by_hand() -> None:
    """One tile to the stream: the header leaves at once, the result after feed, array, read-out, drain and lanes."""
    cfg = config()
    packets = [*setup(cfg), layer(cfg, k_words=3)]
    got = predict(cfg, packets)
    start = got.input_beats[-1] + 3
    assert got.output_beats.tolist()[:2] == [start + 2, start + 3]
    last_slot = start + 3 * cfg.rows
    step = last_slot + tile_latency(cfg) + 1
    beat = step + timing.DRAIN_READ + timing.lane(cfg) + 1
    assert got.output_beats[2] == beat + 1
    assert got.counters["slots"] == 3 * cfg.rows
    assert got.counters["busy_cycles"] == got.output_beats[-1] - start + 1


def check_three_tiles(cfg: Config, *, cycles: int, stalls: int) -> None:
    """Three tiles of 24 products, each later one `cycles` long; the last one's words are read three cycles apart."""
    run = {"pixels": 6, "k_words": 12, "n_tail": 3, "to_stream": 0, "output_address": memory_ports(cfg)[2].page}
    got = predict(cfg, [*setup(cfg), layer(cfg, **run), send(cfg, Opcode.STATUS)])
    last_product = 24 + 2 * cycles
    last_drain_slot = last_product + timing.BANK_SETTLE + (Banks.of(cfg).count - 1) * 3
    last_step = last_drain_slot + tile_latency(cfg) + 2 * cfg.groups
    done = last_step + timing.DRAIN_READ + timing.lane(cfg) + 2
    assert got.counters["busy_cycles"] == done + 1
    assert (got.counters["slots"], got.counters["stall_drain"]) == (3 * 24, stalls)


def test_banked_tiles_by_hand() -> None:
    """Eight drain slots, three cycles apart, between the blocks of two; nothing waits, and the last tile is read alone."""
    cfg = config(activation="bf16")
    assert (Banks.of(cfg).count, timing.BANK_SETTLE, timing.drain_spacing(cfg)) == (8, 2, 3)
    # After a tile's last product: block 0 in cycles 1 and 2, drain slots in cycles 3, 6, .. 24, the rest of the tile up to 32.
    check_three_tiles(cfg, cycles=32, stalls=0)


def test_nine_banks_by_hand() -> None:
    """Two words of a tile are words of the next one, which waits for their drain slots; the other seven come between its blocks."""
    cfg = config(activation="fp8_e4m3", accumulator="banked")
    assert (Banks.of(cfg).count, Banks.of(cfg).awaited, timing.drain_spacing(cfg)) == (9, 2, 3)
    # After the last product: drain slots in cycles 2 and 5, block 0 in 7 and 8, drain slots in 9, 12, .. 27, the rest up to 37.
    check_three_tiles(cfg, cycles=37, stalls=2 * 6)


def test_banked_tiles_wait_for_words() -> None:
    """Tiles of one block: the third waits for the drain slots of the first, the fourth for those of the second."""
    cfg = config(activation="bf16")
    run = {"k_words": 1, "n_tail": 3, "to_stream": 0, "output_address": memory_ports(cfg)[2].page}
    stalls = [
        predict(cfg, [*setup(cfg), layer(cfg, **run, pixels=2 * tiles)]).counters["stall_drain"]
        for tiles in range(1, 5)
    ]
    # The first tile ends in cycle 2, the second in 4; drain slots in 5, 8, .. 26; the third begins in 28. The first slot of the
    # second tile is due in 29 and out in 30, after the third tile; the last comes in 51, so the fourth begins in 53.
    assert stalls == [0, 0, 28 - 5, 28 - 5 + 53 - 30]


def test_the_first_banked_layer_waits_until_the_banks_are_cleared() -> None:
    cfg = config(activation="bf16")
    run = Layer(decode_layer(layer(cfg, k_words=2, to_stream=0)[16:]), cfg)
    early, late = (run_layer(run, start, Output(lambda cycle: cycle)) for start in (5, 1000))
    assert timing.WIPED == 16
    assert (early.stall_drain, late.stall_drain) == (16 - 6, 0)
    assert early.done - 16 == late.done - 1001


def test_the_drain_stalls_tiles_that_are_too_short() -> None:
    """K of one word leaves the drain behind; K of many words does not wait for it."""
    cfg = config(rows=4, cols=8)
    short = {"pixels": 64, "n_tail": 8, "to_stream": 0, "output_address": memory_ports(cfg)[2].page}
    stalled = predict(cfg, [*setup(cfg), layer(cfg, **short)]).counters
    steps_per_tile = cfg.rows * cfg.groups
    tiles = 64 // cfg.rows
    assert stalled["stall_drain"] > (tiles - timing.DRAIN_SETS) * (steps_per_tile - cfg.rows) - tile_latency(cfg)
    assert predict(cfg, [*setup(cfg), layer(cfg, **short, k_words=10)]).counters["stall_drain"] == 0


@pytest.mark.parametrize("pages", [2, 4])
def test_a_maximum_by_hand(pages: int) -> None:
    """One word per cycle, valid pixels or not; what counts as a product is none of them."""
    cfg = config(max_pool=True, pages=pages)
    run = {"pool_kind": 1, "pixels": 5, "k_words": 4, "k_tail": 2, "n_tiles": 3, "to_stream": 0}
    got = predict(cfg, [*setup(cfg), layer(cfg, **run, output_address=cfg.activation_page)])
    assert got.counters["busy_cycles"] == 1 + 3 * 3 * 4 * 2 + timing.POOL + 1
    assert (got.counters["slots"], got.counters["stall_drain"]) == (0, 0)


def test_a_maximum_waits_until_the_banks_are_cleared() -> None:
    cfg = config(activation="bf16", max_pool=True)
    run = layer(cfg, pool_kind=1, k_tail=2, to_stream=0, output_address=cfg.activation_page)
    early, late = (
        run_layer(Layer(decode_layer(run[16:]), cfg), start, Output(lambda cycle: cycle)) for start in (5, 1000)
    )
    assert (early.stall_drain, late.stall_drain) == (16 - 6, 0)
    assert early.done - 16 == late.done - 1001 == cfg.rows - 1 + timing.POOL + 1


def test_a_residual_takes_one_addition_more() -> None:
    plain, machine = config(), config(residual=True)
    packets = [[*setup(cfg), layer(cfg, post=1)] for cfg in (plain, machine)]
    without, having = (predict(cfg, made) for cfg, made in zip((plain, machine), packets, strict=True))
    assert having.cycles - without.cycles == timing.FP32_ADD


def test_words_wait_while_a_layer_writes_another_page() -> None:
    """A copy of 40 pixels writes for 40 cycles; the words of a packet come before and after."""
    cfg = config(rows=4, pages=4, max_pool=True)
    page = cfg.activation_page
    copy = layer(cfg, pool_kind=1, k_tail=4, pixels=40, to_stream=0, output_address=page)
    first, ask = load(cfg, 2, 3, 2 * page), send(cfg, Opcode.STATUS)
    beats = predict(cfg, [*setup(cfg), copy, first, ask]).input_beats
    start = beats[-8] + 3
    written = start + 1 + timing.POOL  # the first word of the copy
    assert timing.POOL == 5
    expected = [0, 1, 4, 5, written - start + 40]
    assert (beats[-7:] - start).tolist() == [*expected, expected[-1] + 3, expected[-1] + 4]
    # Other memories do not wait, and neither do words of a layer that goes to the stream.
    weights = predict(cfg, [*setup(cfg), copy, load(cfg, 0, 12, cfg.weight_words // 2), ask]).input_beats
    assert np.diff(weights[-5:-2]).tolist() == [4, 4]
    run = layer(cfg, pixels=40, result_bytes=160)
    assert np.diff(predict(cfg, [*setup(cfg), run, first, ask]).input_beats[-5:-2]).tolist() == [1, 1]
    # A page in use is waited for.
    waited = predict(cfg, [*setup(cfg), copy, load(cfg, 2, 3, page + 5), ask]).input_beats
    last_write = written + 39 - start
    assert waited[-5] - start == last_write + 1 + 1 + 1  # told, idle, then the first beat


@pytest.mark.parametrize(("rows", "stream_bits"), [(8, 32), (8, 64), (1, 64), (2, 128)])
def test_words_that_wait_are_cut_and_joined(rows: int, stream_bits: int) -> None:
    """However words lie in beats, they take a cycle each that the layer does not write in: every other block of `rows`."""
    cfg = config(rows=rows, cols=4, pages=8, max_pool=True, stream_bits=stream_bits)
    page, words = cfg.activation_page, 16
    copy = layer(cfg, pool_kind=1, k_tail=rows, pixels=96, k_words=2, to_stream=0, output_address=page)
    free, busy = (
        predict(cfg, [*setup(cfg), *run, load(cfg, 2, words, 2 * page), send(cfg, Opcode.STATUS)])
        for run in ([], [copy])
    )
    header = 128 // stream_bits
    payload = words * 16 * rows // stream_bits
    gaps = [int(got.input_beats[-header] - got.input_beats[-header - payload]) for got in (free, busy)]
    assert gaps[0] == max(words, payload) + 2
    assert gaps[0] < gaps[1] <= gaps[0] + ceil_div(gaps[0], rows) * rows


def test_patterns_move_beats_and_fill_the_stall_counters() -> None:
    cfg = config()
    rng = np.random.default_rng(3)
    packets = [*setup(cfg), layer(cfg, pixels=9, n_tail=3, result_bytes=108), send(cfg, Opcode.STATUS)]
    free = predict(cfg, packets)
    valid, ready = random_pattern(rng, 37, 0.4), random_pattern(rng, 11, 0.3)
    got = predict(cfg, packets, input_valid=valid, output_ready=ready)
    assert len(got.input_beats) == len(free.input_beats)
    assert got.cycles > free.cycles
    assert np.all(ready[got.output_beats % len(ready)])
    assert np.all(np.diff(got.input_beats) > 0)
    assert got.counters["stall_output"] > free.counters["stall_output"] == 0
    assert got.counters["stall_input"] > free.counters["stall_input"] == 0
    later = predict(cfg, packets, start=100)
    assert np.array_equal(later.input_beats, free.input_beats + 100)
    assert later.counters["stall_input"] == 100


def test_transfers_in_pieces_give_the_same_replies_but_for_the_clock() -> None:
    """Answers wait for the transfer that expects them; a beat is never offered before its transfer begins."""
    cfg = config()
    packets = [*setup(cfg), layer(cfg, pixels=5, result_bytes=20), send(cfg, Opcode.STATUS)]
    whole = EmulatorTransport(cfg).transfer(packets, 2)
    device = EmulatorTransport(cfg)
    first = device.transfer(packets[:-1], 0)
    assert first.packets == []
    assert first.cycles == first.input_beats[-1] + 1
    second = device.transfer([], 1)
    assert second.packets == whole.packets[:1]
    third = device.transfer(packets[-1:], 1)
    assert third.input_beats[0] == first.cycles + second.cycles
    beats = np.concatenate([first.output_beats, second.output_beats, third.output_beats])
    assert np.array_equal(beats[: len(second.output_beats)], whole.output_beats[: len(second.output_beats)])
    a, b = (decode_status(reply[16:]) for reply in (whole.packets[1], third.packets[0]))
    assert a["slots"] == b["slots"] == cfg.rows * 3
    assert b["cycles"] > a["cycles"]


def test_a_million_cycles_take_seconds() -> None:
    cfg = config(rows=8, cols=8)
    run = layer(cfg, pixels=1 << 17, n_tail=8, k_words=5, result_bytes=1 << 22)
    started = time.process_time()
    got = predict(cfg, [*setup(cfg), run])
    assert got.cycles > 650_000
    assert time.process_time() - started < 20


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="whole number of 8-byte beats"):
        predict(config(), [bytes(12)])
    with pytest.raises(InputError, match="must be true in at least one"):
        predict(config(), [], input_valid=np.zeros(3, np.bool_))

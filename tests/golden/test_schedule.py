"""Tiles that repeat are taken at once: the same cycles, beats and counters as tile by tile and beat by beat, and far sooner."""

import time

import numpy as np
import pytest

from golden import schedule
from golden.cycles import CyclePrediction, predict
from golden.decoder import Layer
from golden.schedule import LayerRun, Output, at_once, run_layer
from shiftforge.config import Config, from_dict
from shiftforge.packets import LAYER_FIELDS
from sim.stimulus import Programs

#           rows cols activation output stream
MACHINES = [
    (1, 1, "fp8_e4m3", "fp16", 128),
    (2, 3, "fp16", "fp32", 32),
    (3, 5, "fp16", "fp16", 64),
    (3, 5, "fp16 aligned", "fp16", 64),
    (2, 5, "fp8_e4m3 banked", "fp16", 32),  # nine banks: tiles wait for words that they share
    (8, 8, "int8", "int8", 64),
    (8, 8, "fp16", "fp32", 32),
    (5, 3, "bf16", "bf16", 128),
    (3, 7, "fp32", "fp32", 32),
    (3, 7, "int8", "int8", 64),
    (16, 16, "bf16", "fp32", 32),
]


def machine(rows: int, cols: int, activation: str, output: str, stream_bits: int) -> Config:
    """The activation's name, and after it an accumulator that is not its default."""
    name, _, accumulator = activation.partition(" ")
    array: dict[str, object] = {"accumulator": accumulator} if accumulator else {}
    array |= {
        "rows": rows,
        "cols": cols,
        "activation": name,
        "output": output,
        "weight_bits": 3,
        "max_k": 4 * rows,
    }
    memory = {"activation_pages": 4}  # so that a layer's writes are noted
    return from_dict({"array": array, "memory": memory, "interface": {"stream_bits": stream_bits}})


def random_layer(config: Config, rng: np.random.Generator) -> Layer:
    """Many tiles, short and long, ragged at both ends."""
    values = dict.fromkeys((field.name for field in LAYER_FIELDS), 0)
    values |= {
        "pixels": int(rng.integers(1, 40 * config.rows)),
        "k_words": int(rng.integers(1, 12)),
        "n_tiles": int(rng.integers(1, 4)),
        "n_tail": int(rng.integers(1, config.cols + 1)),
        "to_stream": int(rng.integers(2)),
    }
    return Layer(values, config)


def timeline(layer: Layer, start: int) -> tuple[LayerRun, list[int]]:
    output = Output(at_once)
    return run_layer(layer, start, output), output.beats


@pytest.mark.parametrize("shape", MACHINES, ids=str)
def test_a_layer_of_many_tiles_is_that_layer_tile_by_tile(shape, monkeypatch) -> None:
    rng = np.random.default_rng(1)
    config = machine(*shape)
    layers = [(random_layer(config, rng), int(rng.integers(0, 60))) for _ in range(60)]
    at_a_time = [timeline(layer, start) for layer, start in layers]
    monkeypatch.setattr(schedule, "LONGEST_PERIOD", 0)
    assert [timeline(layer, start) for layer, start in layers] == at_a_time


def equal(a: CyclePrediction, b: CyclePrediction) -> bool:
    beats = np.array_equal(a.input_beats, b.input_beats) and np.array_equal(a.output_beats, b.output_beats)
    return beats and a.cycles == b.cycles and a.counters == b.counters


@pytest.mark.parametrize("shape", MACHINES, ids=str)
def test_random_programs_are_those_beat_by_beat(shape, monkeypatch) -> None:
    """A pattern that is always true is followed beat by beat and step by step."""
    config, always = machine(*shape), np.ones(1, np.bool_)
    for seed in range(12):
        program = Programs(config, np.random.default_rng(seed)).program(12, broken=0.1)
        fast = predict(config, program, start=seed)
        with monkeypatch.context() as plain:
            plain.setattr(schedule, "LONGEST_PERIOD", 0)
            slow = predict(config, program, input_valid=always, output_ready=always, start=seed)
        assert len(fast.input_beats) > 50
        assert equal(fast, slow)


@pytest.mark.parametrize("to_stream", [0, 1])
def test_a_hundred_thousand_tiles_take_no_time(to_stream) -> None:
    config = machine(8, 8, "fp16", "fp16", 64)
    values = dict.fromkeys((field.name for field in LAYER_FIELDS), 0)
    values |= {"pixels": 400_000, "k_words": 4, "n_tiles": 2, "n_tail": 8, "to_stream": to_stream}
    started = time.process_time()
    run, beats = timeline(Layer(values, config), 5)
    assert time.process_time() - started < 2
    assert run.slots == 100_000 * 32
    assert len(beats) == to_stream * (2 + 400_000 * 16 * 2 // 8)

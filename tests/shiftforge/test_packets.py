"""Packet headers, layer descriptors and status replies as bytes."""

import struct

import numpy as np
import pytest

from shiftforge.errors import InputError
from shiftforge.packets import (
    HEADER_BYTES,
    LAYER_BYTES,
    LAYER_FIELD,
    LAYER_FIELDS,
    LAYER_WORDS,
    STATUS_BYTES,
    STATUS_FIELDS,
    Header,
    HeaderFlag,
    Opcode,
    decode_layer,
    decode_status,
    encode_layer,
    memory_ports,
    packet,
    word_stride_bits,
)
from tests.sw_driver.networks import config_of


def test_a_header_is_sixteen_little_endian_bytes():
    header = Header(Opcode.STATUS, 0x1234, address=0x89ABCDEF, length=0x01020304, flags=int(HeaderFlag.CLEAR))
    data = header.encode()
    assert data.hex() == "53460601" + "3412" + "0000" + "efcdab89" + "04030201"
    assert data[:2] == b"SF"
    assert Header.decode(data) == header
    assert Header.decode(Header(Opcode.LAYER, 0x1_0005).encode()).sequence == 5


@pytest.mark.parametrize("stream_bits", [32, 64, 128])
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 100])
def test_packets_are_whole_beats(length, stream_bits):
    payload = bytes(range(length))
    data = packet(Header(Opcode.WEIGHTS, 0, length=length), payload, stream_bits)
    assert len(data) % (stream_bits // 8) == 0
    assert len(data) - HEADER_BYTES - length < stream_bits // 8
    assert data[HEADER_BYTES : HEADER_BYTES + length] == payload
    assert not any(data[HEADER_BYTES + length :])


def test_descriptor_fields_neither_overlap_nor_leave_the_descriptor():
    used = np.zeros(32 * LAYER_WORDS, int)
    for field in LAYER_FIELDS:
        assert field.low + field.width <= 32
        used[32 * field.word + field.low : 32 * field.word + field.low + field.width] += 1
    assert used.max() == 1
    assert len({field.name for field in LAYER_FIELDS}) == len(LAYER_FIELDS)
    assert LAYER_BYTES == 96


def test_every_field_has_its_place():
    """Each field alone at its largest and smallest: its bits are set and nobody else's."""
    for field in LAYER_FIELDS:
        low, high = (
            (-(1 << (field.width - 1)), (1 << (field.width - 1)) - 1) if field.signed else (0, (1 << field.width) - 1)
        )
        for value in (low, high):
            payload = encode_layer({field.name: value})
            word = struct.unpack(f"<{LAYER_WORDS}I", payload)[field.word]
            assert word >> field.low & ((1 << field.width) - 1) == value & ((1 << field.width) - 1)
            decoded = decode_layer(payload)
            expected = dict.fromkeys(LAYER_FIELD, 0) | {field.name: value}
            assert decoded == expected


def test_a_descriptor_of_random_values_comes_back():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = {}
        for field in LAYER_FIELDS:
            value = int(rng.integers(0, 1 << field.width))
            values[field.name] = value - (1 << field.width) if field.signed and value >> (field.width - 1) else value
        assert decode_layer(encode_layer(values)) == values


def test_a_status_reply_is_read_by_name():
    payload = struct.pack(f"<{len(STATUS_FIELDS)}I", *range(7, 7 + len(STATUS_FIELDS)))
    assert decode_status(payload + bytes(16)) == {name: 7 + i for i, (name, _) in enumerate(STATUS_FIELDS)}
    assert len(payload) == STATUS_BYTES


@pytest.mark.parametrize("bits, stride", [(1, 8), (8, 8), (9, 16), (12, 16), (24, 32), (48, 64), (64, 64), (65, 128)])
def test_words_take_a_power_of_two_of_bits(bits, stride):
    assert word_stride_bits(bits) == stride


def test_memory_ports_are_those_of_the_configuration():
    config = config_of(3, 5)
    weights, parameters, activations = memory_ports(config)
    assert [p.opcode for p in (weights, parameters, activations)] == [2, 3, 4]
    assert (weights.word_bits, weights.stride_bits, weights.page) == (15, 16, config.weight_words // 2)
    assert (activations.word_bits, activations.stride_bits) == (48, 64)
    assert parameters.word_bits == 64 * config.lanes


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda: Header.decode(b"SF"), "a packet must have a header of 16 bytes, not 2 bytes"),
        (lambda: Header.decode(bytes(16)), "a packet must begin with the magic number 0x4653, not 0x0000"),
        (
            lambda: packet(Header(2, 0, length=3), b"ab", 64),
            "header.length must be the payload's 2 bytes, not 3",
        ),
        (lambda: encode_layer({"k_tail": 512}), "layer field k_tail must be 0..511, not 512"),
        (lambda: encode_layer({"exponent_bias": -129}), "layer field exponent_bias must be -128..127, not -129"),
        (lambda: encode_layer({"z": 1, "b": 2}), "a layer descriptor must have only known fields, not b, z"),
        (lambda: decode_layer(bytes(95)), "a layer descriptor must be 96 bytes, not 95"),
        (lambda: decode_status(bytes(4)), f"a status reply must be {STATUS_BYTES} bytes, not 4"),
    ],
)
def test_wrong_packets_are_refused(act, message):
    with pytest.raises(InputError) as caught:
        act()
    assert str(caught.value) == message

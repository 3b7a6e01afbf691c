"""A host for the emulator: packets built by hand, in Python integers, and results taken apart as the drain makes them."""

import numpy as np

from golden.emulator import Emulator
from shiftforge.config import Config, from_dict
from shiftforge.packets import Header, Opcode, decode_status, encode_layer, packet, word_stride_bits


def config(
    rows=2,
    cols=3,
    activation="fp16",
    output="fp32",
    weight_bits=3,
    max_k=20,
    mask=False,
    residual=False,
    max_pool=False,
    pages=2,
    words=512,
    **interface,
) -> Config:
    return from_dict(
        {
            "array": {
                "rows": rows,
                "cols": cols,
                "activation": activation,
                "output": output,
                "weight_bits": weight_bits,
                "mask": mask,
                "max_k": max_k,
                "residual": residual,
                "max_pool": max_pool,
            },
            "memory": {"activation_words": words, "activation_pages": pages},
            "interface": interface,
        }
    )


def pack_words(elements: np.ndarray, bits: int) -> bytes:
    """One integer per word, little-endian in its stride: the layout as the packet map says it, in Python integers."""
    stride = word_stride_bits(elements.shape[1] * bits) // 8
    words = (sum(int(e) << (i * bits) for i, e in enumerate(row)) for row in elements)
    return b"".join(word.to_bytes(stride, "little") for word in words)


class Host:
    """Builds packets and keeps the sequence number."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.device = Emulator(config)
        self.sequence = 0

    def send(self, opcode: int, payload: bytes = b"", address: int = 0, flags: int = 0) -> list[bytes]:
        self.sequence += 1
        header = Header(opcode, self.sequence, address, len(payload), flags)
        return self.device.feed([packet(header, payload, self.config.stream_bits)])

    def configure(self) -> None:
        assert self.send(Opcode.CONFIG, self.config.hash.to_bytes(4, "little")) == []

    def status(self, flags: int = 0) -> dict[str, int]:
        (reply,) = self.send(Opcode.STATUS, flags=flags)
        header = Header.decode(reply)
        assert (header.opcode, header.sequence, header.length) == (Opcode.STATUS_REPLY, self.sequence, 48)
        assert len(reply) % (self.config.stream_bits // 8) == 0
        return decode_status(reply[16:])

    def activations(self, x: np.ndarray, address: int = 0) -> int:
        """Load (pixels, K) codes; returns the words per pixel."""
        rows = self.config.rows
        words = -(-x.shape[1] // rows)
        padded = np.zeros((x.shape[0], words * rows), np.int64)
        padded[:, : x.shape[1]] = x
        data = pack_words(padded.reshape(-1, rows), self.config.activation.bits)
        assert self.send(Opcode.ACTIVATIONS, data, address) == []
        return words

    def weights(self, w: np.ndarray, address: int = 0) -> None:
        """Load (K, N) codes tile by tile; the padding holds ones, which must not matter."""
        rows, cols = self.config.rows, self.config.cols
        k, n = w.shape
        depth, tiles = -(-k // rows) * rows, -(-n // cols)
        padded = np.ones((depth, tiles * cols), np.int64)
        padded[:k, :n] = w
        words = padded.reshape(depth, tiles, cols).transpose(1, 0, 2).reshape(-1, cols)
        assert self.send(Opcode.WEIGHTS, pack_words(words, self.config.weights.element_bits), address) == []

    def parameters(self, scale: np.ndarray, bias: np.ndarray, address: int = 0) -> None:
        cols, lanes, groups = self.config.cols, self.config.lanes, self.config.groups
        tiles = -(-len(scale) // cols)
        words = np.full((tiles * groups, 2 * lanes), 0x7FC00000, np.uint64)
        for n in range(len(scale)):
            word = n // cols * groups + n % cols // lanes
            lane = n % cols % lanes
            words[word, 2 * lane] = scale[n : n + 1].view(np.uint32)[0]
            words[word, 2 * lane + 1] = bias[n : n + 1].view(np.uint32)[0]
        assert self.send(Opcode.PARAMETERS, pack_words(words, 32), address) == []

    def layer(self, m: int, k: int, n: int, **fields: int) -> list[bytes]:
        rows, cols = self.config.rows, self.config.cols
        k_words, tiles = -(-k // rows), -(-n // cols)
        values = {
            "pixels": m,
            "k_words": k_words,
            "k_tail": k - (k_words - 1) * rows,
            "n_tiles": tiles,
            "n_tail": n - (tiles - 1) * cols,
            "input_stride": k_words,
            "to_stream": 1,
            "result_bytes": self.result_bytes(m, n),
            **fields,
        }
        return self.send(Opcode.LAYER, encode_layer(values))

    def result_bytes(self, m: int, n: int) -> int:
        cols, lanes = self.config.cols, self.config.lanes
        full, tail = divmod(n, cols)
        return m * (full * -(-cols // lanes) + -(-tail // lanes)) * lanes * self.config.output.bytes


def results(host: Host, reply: bytes, m: int, n: int) -> np.ndarray:
    """The codes (m, n) in a RESULT packet, taken apart step by step as the drain makes them."""
    header = Header.decode(reply)
    assert (header.opcode, header.sequence, header.length) == (Opcode.RESULT, host.sequence, host.result_bytes(m, n))
    size = host.config.output.bytes
    codes = [int.from_bytes(reply[i : i + size], "little") for i in range(16, 16 + header.length, size)]
    assert not any(reply[16 + header.length :])
    y = np.zeros((m, n), np.uint32)
    rows, cols, lanes = host.config.rows, host.config.cols, host.config.lanes
    source = iter(codes)
    for nt in range(-(-n // cols)):
        for mt in range(-(-m // rows)):
            for row in range(mt * rows, min(m, (mt + 1) * rows)):
                valid = min(cols, n - nt * cols)
                for group in range(-(-valid // lanes)):
                    for lane in range(lanes):
                        code = next(source)
                        if group * lanes + lane < valid:
                            y[row, nt * cols + group * lanes + lane] = code
                        else:
                            assert code == 0
    assert next(source, None) is None
    return y

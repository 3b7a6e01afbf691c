"""Emitter: random RESULT and STATUS_REPLY packets under random back-pressure, byte for byte, and the rules of AXI4-Stream."""

from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from shiftforge.config import Config
from shiftforge.packets import STATUS_FIELDS, Header, Opcode, packet
from sim.benches.lockstep import Values, bench_setup, bits, chance, pack_layer
from sim.clock import start_clock

PACKETS = 60
ROOM = 8
"""Steps in the FIFO of this bench, as `sim.units` builds the emitter."""
LONGEST = 4000
"""Cycles after which a packet must have left."""
KEPT = ("cycles", "stall_output")
"""Counters that run on while a reply leaves: the reply must show them as they were with the request."""


@dataclass
class Job:
    """One packet: what the emitter is told, and the bytes that must leave."""

    kind: str
    inputs: Values
    expected: bytes
    steps: list[int] = field(default_factory=list)


def a_job(config: Config, rng: np.random.Generator) -> Job:
    """A status reply, or a result of 1 to 20 steps (which need not fill their last beat)."""
    sequence = bits(rng, 16)
    if chance(rng, 0.3):
        words = [bits(rng, 32) for _ in STATUS_FIELDS]
        payload = b"".join(word.to_bytes(4, "little") for word in words)
        inputs = {f"status_{name}": word for (name, _), word in zip(STATUS_FIELDS, words, strict=True)}
        header = Header(Opcode.STATUS_REPLY, sequence, 0, len(payload))
        return Job("status", {**inputs, "sequence": sequence}, packet(header, payload, config.stream_bits))
    step_bits = config.lanes * config.output.bits
    steps = [bits(rng, step_bits) for _ in range(int(rng.integers(1, 21)))]
    payload = b"".join(step.to_bytes(step_bits // 8, "little") for step in steps)
    header = Header(Opcode.RESULT, sequence, 0, len(payload))
    inputs = {"layer": pack_layer(config, {"result_bytes": len(payload), "to_stream": 1}), "sequence": sequence}
    return Job("result", inputs, packet(header, payload, config.stream_bits), steps)


@cocotb.test()
async def every_packet(dut) -> None:
    """Beats in order and complete; an offered beat stays; a packet is done, and the emitter idle, when its last is taken."""
    config, rng = bench_setup()
    beat_bytes = config.stream_bits // 8
    ports = ["m_axis_tready", "layer", "sequence", "result", "status", "fifo_write", "fifo_data", "fifo_last"]
    for name in [*ports, *(f"status_{name}" for name, _ in STATUS_FIELDS)]:
        getattr(dut, name).value = 0
    await start_clock(dut)
    outputs = {
        name: getattr(dut, name)
        for name in (
            *("m_axis_tdata", "m_axis_tkeep", "m_axis_tvalid", "m_axis_tlast"),
            *("taken", "result_done", "status_done", "idle", "stall"),
        )
    }
    held: tuple[int, int] | None = None

    async def cycle(given: Values, ready: int, position: str) -> Values:
        """Drive, sample; the rules that hold in every cycle."""
        nonlocal held
        await FallingEdge(dut.clk)
        for name, value in given.items():
            getattr(dut, name).value = value
        dut.m_axis_tready.value = ready
        await ReadOnly()
        seen = {name: int(handle.value) for name, handle in outputs.items()}
        valid = seen["m_axis_tvalid"]
        beat = (seen["m_axis_tdata"], seen["m_axis_tlast"]) if valid else None
        assert held is None or beat == held, f"beat {held} must stay until it is taken, not become {beat} in {position}"
        held = beat if valid and not ready else None
        assert seen["stall"] == valid & (1 - ready), f"stall must be {valid & (1 - ready)} in {position}"
        assert not valid or seen["m_axis_tkeep"] == (1 << beat_bytes) - 1, f"tkeep must be all ones in {position}"
        return seen

    for number in range(PACKETS):
        job = a_job(config, rng)
        pause, flow = float(rng.choice([0.0, 0.3, 0.8])), float(rng.choice([1.0, 0.3]))
        for _ in range(int(rng.integers(0, 3))):
            seen = await cycle({"sequence": bits(rng, 16), "result": 0, "status": 0}, chance(rng, 0.5), "a gap")
            assert seen["idle"] == 1, f"idle must be 1 before packet {number}, not 0"
            assert not seen["m_axis_tvalid"], f"no beat may come between packets, as before packet {number}"
        seen = await cycle({**job.inputs, job.kind: 1}, 1 - chance(rng, pause), f"packet {number}")
        assert seen["idle"] == 1, f"idle must be 1 with the request of packet {number}, not 0"
        found = bytearray()
        taken = written = 0
        for t in range(LONGEST):
            position = f"cycle {t} of packet {number}"
            given: Values = {"result": 0, "status": 0, "sequence": bits(rng, 16), "fifo_write": 0}
            given |= {f"status_{name}": bits(rng, 32) for name in KEPT}
            if written < len(job.steps) and written - taken < ROOM and chance(rng, flow):
                given |= {"fifo_write": 1, "fifo_data": job.steps[written]}
                given["fifo_last"] = int(written == len(job.steps) - 1)
            ready = 1 - chance(rng, pause)
            seen = await cycle(given, ready, position)
            assert not seen["idle"], f"idle must be 0 in {position}, not 1"
            taken += seen["taken"]
            assert taken <= written, f"only steps in the FIFO may be taken, not more in {position}"
            written += given["fifo_write"]
            end = 0
            if seen["m_axis_tvalid"] and ready:
                found += seen["m_axis_tdata"].to_bytes(beat_bytes, "little")
                end = seen["m_axis_tlast"]
            done = {"result": seen["result_done"], "status": seen["status_done"]}
            wanted = {"result": 0, "status": 0, job.kind: end}
            assert done == wanted, f"the done signals must be {wanted} in {position}, not {done}"
            if end:
                break
        else:
            raise AssertionError(f"packet {number} must end within {LONGEST} cycles")
        assert bytes(found) == job.expected, f"packet {number} must be {job.expected.hex()}, not {found.hex()}"
        assert taken == len(job.steps), f"packet {number} must take {len(job.steps)} steps, not {taken}"

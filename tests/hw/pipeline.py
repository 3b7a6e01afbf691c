"""Drive a fully pipelined unit in Amaranth's simulator: one set of inputs per cycle, outputs after its latency."""

from collections.abc import Mapping, Sequence

from amaranth.lib.wiring import Component, Signature
from amaranth.sim import Simulator


def stream(unit: Component, inputs: Sequence[Mapping[str, int]], latency: int) -> list[dict[str, int]]:
    """The outputs of `unit` for each element of `inputs` (port -> value; a port that is left out keeps its value)."""
    assert isinstance(unit.signature, Signature)
    outputs = [name for name, member in unit.signature.members.items() if member.flow.name == "Out"]
    found: list[dict[str, int]] = []

    async def bench(ctx):
        for cycle in range(len(inputs) + latency):
            if cycle >= latency:
                found.append({name: ctx.get(getattr(unit, name)) for name in outputs})
            if cycle < len(inputs):
                for name, value in inputs[cycle].items():
                    ctx.set(getattr(unit, name), value)
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found

"""Shows that a netlist is a function of its inputs of a fixed number of cycles ago.

In a netlist without loops, in which all inputs of every cell have passed the same number of registers, an output after n
registers is at every cycle the function, with registers replaced by wires, of the inputs n cycles earlier. That is checked here, on
yosys' own netlist, so that an unbalanced pipeline cannot hide behind a proof of the function.
"""

from typing import cast

from shiftforge.errors import CheckFailed

Bit = int | str
"""A net, or a constant: "0", "1" or "x"."""

_REGISTER = "$dff"
_IGNORED = ("$scopeinfo",)


def latency_of(netlist: dict[str, object], output: str, stable: tuple[str, ...]) -> int:
    """Registers on every path from an input to `output` of the module `top`; constants and `stable` inputs may enter anywhere.

    Parameters
    ----------
    netlist : dict
        What yosys' ``write_json`` wrote.

    Raises
    ------
    CheckFailed
        When two paths differ, or a cell has a state of another kind than a register without enable and reset.
    """
    modules = cast("dict[str, dict[str, dict[str, dict[str, object]]]]", netlist["modules"])
    top = modules["top"]
    latency: dict[Bit, int | None] = {"0": None, "1": None, "x": None}
    for name, port in top["ports"].items():
        if port["direction"] == "input":
            for bit in cast("list[Bit]", port["bits"]):
                latency[bit] = None if name in stable else 0
    drivers: dict[Bit, tuple[str, list[Bit]]] = {}
    for name, cell in top["cells"].items():
        kind = str(cell["type"])
        if kind in _IGNORED:
            continue
        directions = cast("dict[str, str]", cell["port_directions"])
        connections = cast("dict[str, list[Bit]]", cell["connections"])
        if kind == _REGISTER:
            for q, d in zip(connections["Q"], connections["D"], strict=True):
                drivers[q] = (kind, [d])
            continue
        if kind.startswith(("$sdff", "$adff", "$dffe", "$mem", "$dlatch", "$sr")):
            raise CheckFailed(f"cell {name} of a pipeline must be a register or combinational, not {kind}")
        sources = [bit for port, bits in connections.items() if directions[port] == "input" for bit in bits]
        for port, bits in connections.items():
            if directions[port] == "output":
                drivers |= dict.fromkeys(bits, (kind, sources))

    targets = cast("list[Bit]", top["ports"][output]["bits"])
    stack: list[Bit] = list(targets)
    open_bits: set[Bit] = set()
    while stack:
        bit = stack[-1]
        if bit in latency:
            stack.pop()
            continue
        kind, sources = drivers[bit]
        missing = [source for source in sources if source not in latency]
        if missing:
            if bit in open_bits:
                raise CheckFailed("a pipeline must have no loop, and has one")
            open_bits.add(bit)
            stack += missing
            continue
        found = {latency[source] for source in sources} - {None}
        if len(found) > 1:
            raise CheckFailed(f"inputs of a cell {kind} must be of the same cycle, not of {sorted(map(str, found))}")
        age = found.pop() if found else None
        latency[bit] = age + 1 if age is not None and kind == _REGISTER else age
        open_bits.discard(bit)
        stack.pop()
    ages = {latency[bit] for bit in targets} - {None}
    if len(ages) != 1:
        raise CheckFailed(f"output {output} must have one latency, not {sorted(map(str, ages))}")
    return cast("int", ages.pop())

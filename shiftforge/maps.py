"""Documentation of the packet and register maps, generated from their tables: Markdown, JSON and a C header.

``python -m shiftforge.maps docs`` writes `packets.md`, `registers.md` and `configuration.md` of `docs/` again; a test compares what
is committed.
Pure Python.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from shiftforge.activation import ACTIVATION_KINDS
from shiftforge.config import KEYS, Config
from shiftforge.files import write_atomically
from shiftforge.formats import FORMATS
from shiftforge.packets import (
    HEADER_BYTES,
    LAYER_BYTES,
    LAYER_FIELDS,
    LAYER_WORDS,
    MAGIC,
    OPCODE_TEXT,
    STATUS_BYTES,
    STATUS_FIELDS,
    Field,
    HeaderFlag,
    Opcode,
)
from shiftforge.registers import (
    ADDRESS_BITS,
    ERROR_TEXT,
    ID_VALUE,
    REGISTERS,
    VERSION_VALUE,
    Control,
    Error,
    Flag,
    Status,
)

HEADER_FIELDS = (
    ("magic", 0, 2, f"{MAGIC:#06x}: the bytes 'SF'"),
    ("opcode", 2, 1, "see the table of opcodes"),
    ("flags", 3, 1, "bit 0 CLEAR (STATUS): clear the sticky errors and flags once they are in the reply"),
    ("sequence", 4, 2, "any number; an answer carries that of the packet that it answers"),
    ("reserved", 6, 2, "0"),
    ("address", 8, 4, "first memory word (WEIGHTS, PARAMETERS, ACTIVATIONS), else 0"),
    ("length", 12, 4, "payload bytes, without the zeros that fill the last beat"),
)
"""Name, first byte, bytes, meaning of each field of a packet header, as `shiftforge.packets.Header` encodes it."""

_GENERATED = "Generated from `{source}` by `python -m shiftforge.maps docs`; do not edit."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _bits(field: Field) -> str:
    high = field.low + field.width - 1
    return str(high) if field.width == 1 else f"{high}:{field.low}"


def _field_text(field: Field) -> str:
    notes = [field.text]
    if field.signed:
        notes.append("two's complement")
    if field.needs == "a later version":
        notes.append("must be 0 in this version")
    elif field.needs != "nothing":
        notes.append(f"must be 0 on a machine without `{field.needs}`")
    return "; ".join(notes)


def packets_markdown() -> str:
    """`docs/packets.md`."""
    opcodes = [[f"{op:#04x}", op.name, OPCODE_TEXT[op]] for op in Opcode]
    header = [[str(at), str(size), name, text] for name, at, size, text in HEADER_FIELDS]
    layer = [[str(f.word), _bits(f), f.name, _field_text(f)] for f in LAYER_FIELDS]
    status = [[str(4 * i), name, text] for i, (name, text) in enumerate(STATUS_FIELDS)]
    return "\n\n".join(
        (
            "# Packets",
            _GENERATED.format(source="shiftforge/packets.py"),
            (
                "Both streams carry packets of whole beats, each ended by one tlast: a header of "
                f"{HEADER_BYTES} bytes, `length` bytes of payload, zeros to the end of the beat. All fields are little-endian. "
                "What the machine does with them is in [architecture.md](architecture.md)."
            ),
            "## Header",
            _table(("byte", "bytes", "field", "meaning"), header),
            "## Opcodes",
            "From 0x80 on: packets that the machine sends.",
            _table(("opcode", "name", "meaning"), opcodes),
            f"## Layer descriptor\n\nThe payload of LAYER: {LAYER_WORDS} words of 32 bits, {LAYER_BYTES} bytes.",
            _table(("word", "bits", "field", "meaning"), layer),
            (
                f"## Status reply\n\nThe payload of STATUS_REPLY: {len(STATUS_FIELDS)} words of 32 bits, {STATUS_BYTES} bytes, all "
                "sampled in the cycle in which the reply begins."
            ),
            _table(("byte", "field", "meaning"), status) + "\n",
        )
    )


def registers_markdown() -> str:
    """`docs/registers.md`."""
    registers = [[f"{r.address:#05x}", r.name, r.access, r.text] for r in REGISTERS]
    errors = [[str(_bit(e)), e.name or "", ERROR_TEXT[e]] for e in Error]
    formats = [[str(i), name] for i, name in enumerate(FORMATS)]
    return "\n\n".join(
        (
            "# Registers",
            _GENERATED.format(source="shiftforge/registers.py"),
            (
                f"AXI4-Lite, {ADDRESS_BITS} address bits, registers of 32 bits. An address that is not listed, and a write to a "
                "read-only register, answers SLVERR. `w1c`: write 1 to clear a bit."
            ),
            _table(("address", "name", "access", "meaning"), registers),
            "## Errors\n\nBits of the ERRORS register and of `errors` in the status reply.",
            _table(("bit", "name", "meaning"), errors),
            "## Formats\n\nIndices in the FORMATS register.",
            _table(("index", "format"), formats) + "\n",
        )
    )


def configuration_markdown() -> str:
    """`docs/configuration.md`."""
    kinds = {int: "integer", str: "string", bool: "true or false"}
    rows = [[f"[{k.section}]", k.name, kinds[k.kind], k.default or "must be given", k.text] for k in KEYS]
    return "\n\n".join(
        (
            "# Configuration",
            _GENERATED.format(source="shiftforge/config.py"),
            (
                "An accelerator is one TOML file, read by generator, golden model and driver alike. Unknown keys are errors. "
                "What follows from it (widths, sizes, latencies) is printed by `shiftforge generate` and stands in the manifest "
                "with the rule of each; the configuration's hash ties program, Verilog and device together."
            ),
            _table(("section", "key", "kind", "without it", "meaning"), rows) + "\n",
        )
    )


def _bit(flag: int) -> int:
    return int(flag).bit_length() - 1


def packets_json() -> str:
    """The packet map as a JSON object."""
    described = {
        "magic": MAGIC,
        "header_bytes": HEADER_BYTES,
        "header": [{"name": n, "byte": at, "bytes": size, "text": text} for n, at, size, text in HEADER_FIELDS],
        "header_flags": {flag.name: int(flag) for flag in HeaderFlag},
        "opcodes": [{"name": op.name, "value": int(op), "text": OPCODE_TEXT[op]} for op in Opcode],
        "layer_bytes": LAYER_BYTES,
        "layer": [
            {
                "name": f.name,
                "word": f.word,
                "low": f.low,
                "width": f.width,
                "signed": f.signed,
                "needs": f.needs,
                "text": f.text,
            }
            for f in LAYER_FIELDS
        ],
        "activation_kinds": list(ACTIVATION_KINDS),
        "status_bytes": STATUS_BYTES,
        "status": [{"name": name, "byte": 4 * i, "text": text} for i, (name, text) in enumerate(STATUS_FIELDS)],
    }
    return json.dumps(described, indent=2) + "\n"


def registers_json() -> str:
    """The register map as a JSON object."""
    described = {
        "address_bits": ADDRESS_BITS,
        "id": ID_VALUE,
        "version": VERSION_VALUE,
        "registers": [
            {"name": r.name, "address": int(r.address), "access": r.access, "text": r.text} for r in REGISTERS
        ],
        "errors": [{"name": e.name, "bit": _bit(e), "text": ERROR_TEXT[e]} for e in Error],
        "flags": {flag.name: _bit(flag) for flag in Flag},
        "control": {flag.name: _bit(flag) for flag in Control},
        "status": {flag.name: _bit(flag) for flag in Status},
        "formats": list(FORMATS),
    }
    return json.dumps(described, indent=2) + "\n"


def c_header(config: Config) -> str:
    """`shiftforge.h`: both maps and the numbers of one machine as C macros."""
    lines = ["/* Packet and register map of a ShiftForge accelerator; generated, do not edit. */"]
    for guard in ("#ifndef SHIFTFORGE_H", "#define SHIFTFORGE_H"):
        lines.append(guard)
    for title, macros in _macro_groups(config):
        lines += ["", f"/* {title} */", *(f"#define SF_{name} {value}" for name, value in macros)]
    return "\n".join([*lines, "", "#endif", ""])


def _macro_groups(config: Config) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    yield (
        "this machine",
        [
            ("CONFIG_HASH_VALUE", f"0x{config.hash:08x}u"),
            ("ROWS", f"{config.rows}u"),
            ("COLS", f"{config.cols}u"),
            ("WEIGHT_BITS", f"{config.weights.bits}u"),
            ("WEIGHT_ELEMENT_BITS", f"{config.weights.element_bits}u"),
            ("MAX_K_VALUE", f"{config.max_k}u"),
            ("STREAM_BITS", f"{config.stream_bits}u"),
            ("ACTIVATION_WORDS", f"{config.activation_words}u"),
            ("ACTIVATION_PAGES", f"{config.activation_pages}u"),
            ("RESIDUAL", f"{int(config.residual)}u"),
            ("MAX_POOL", f"{int(config.max_pool)}u"),
            ("ACTIVATION_WORD_BITS", f"{config.activation_word_bits}u"),
            ("WEIGHT_WORDS", f"{config.weight_words}u"),
            ("WEIGHT_WORD_BITS", f"{config.weight_word_bits}u"),
            ("PARAMETER_WORDS", f"{config.parameter_words}u"),
            ("PARAMETER_WORD_BITS", f"{config.parameter_word_bits}u"),
        ],
    )
    constants = [("ID_VALUE", f"0x{ID_VALUE:08x}u"), ("VERSION_VALUE", f"0x{VERSION_VALUE:08x}u")]
    yield "registers: byte addresses", [(f"REG_{r.name}", f"0x{r.address:03x}u") for r in REGISTERS]
    yield (
        "registers: values and bits",
        constants
        + [
            (f"{prefix}_{flag.name}", f"0x{int(flag):x}u")
            for prefix, kind in (("CONTROL", Control), ("STATUS", Status), ("ERROR", Error), ("FLAG", Flag))
            for flag in kind
        ],
    )
    yield (
        "packets: header",
        [
            ("MAGIC", f"0x{MAGIC:04x}u"),
            ("HEADER_BYTES", f"{HEADER_BYTES}u"),
            *((f"HEADER_{name.upper()}_BYTE", f"{at}u") for name, at, _, _ in HEADER_FIELDS),
            *((f"HEADER_FLAG_{flag.name}", f"0x{int(flag):x}u") for flag in HeaderFlag),
            *((f"OPCODE_{op.name}", f"0x{int(op):02x}u") for op in Opcode),
        ],
    )
    layer = [("LAYER_BYTES", f"{LAYER_BYTES}u")]
    for field in LAYER_FIELDS:
        name = f"LAYER_{field.name.upper()}"
        layer += [
            (f"{name}_WORD", f"{field.word}u"),
            (f"{name}_LOW", f"{field.low}u"),
            (f"{name}_WIDTH", f"{field.width}u"),
        ]
    layer += [(f"ACTIVATION_{kind.upper()}", f"{i}u") for i, kind in enumerate(ACTIVATION_KINDS)]
    yield "packets: layer descriptor (word, lowest bit, width)", layer
    yield (
        "packets: status reply (byte of each word)",
        [
            ("STATUS_REPLY_BYTES", f"{STATUS_BYTES}u"),
            *((f"STATUS_REPLY_{name.upper()}_BYTE", f"{4 * i}u") for i, (name, _) in enumerate(STATUS_FIELDS)),
        ],
    )


def main(arguments: Sequence[str]) -> None:
    """Write the Markdown maps into the folder that is the one argument."""
    (folder,) = arguments
    write_atomically(Path(folder) / "packets.md", packets_markdown())
    write_atomically(Path(folder) / "registers.md", registers_markdown())
    write_atomically(Path(folder) / "configuration.md", configuration_markdown())


if __name__ == "__main__":
    main(sys.argv[1:])

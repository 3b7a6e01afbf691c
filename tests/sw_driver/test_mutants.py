"""Seeded faults in the driver: each is put into a copy of the sources, and the named tests must find it."""

# ruff: noqa: E501 - one fault per line reads better

from pathlib import Path

import pytest

from tests.faults import Fault, check_found, check_passes, copy_tree, name_of, relied_on

# file, text as it is (exactly once), text as the fault makes it, tests that must fail
FAULTS: list[Fault] = [
    ("sw_driver/layout.py", "return k - (k_words(config, k) - 1) * config.rows", "return config.rows", "sw_driver/test_compiler.py"),
    ("sw_driver/layout.py", "ceil_div(n_tail(config, n), config.lanes)", "config.groups", "sw_driver/test_layout.py"),
    ("sw_driver/layout.py", ".transpose(1, 0, 2).reshape(tiles * depth, config.cols)", ".reshape(tiles * depth, config.cols)", "sw_driver/test_layout.py"),
    ("sw_driver/layout.py", "mask=config.weights.mask", "mask=False", "sw_driver/test_layout.py"),
    ("sw_driver/values.py", "np.where(magnitude == 0, fmt.min_exponent,", "np.where(magnitude < 0, fmt.min_exponent,", "sw_driver/test_values.py"),
    ("sw_driver/values.py", "units = np.rint(exact)", "units = np.floor(exact)", "sw_driver/test_values.py"),
    ("sw_driver/compiler/place.py", "opens = self.at % self.half == 0", "opens = False", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/place.py", "half = len(pieces) % 2", "half = 0 * len(pieces)", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/emit.py", "self._word(task.output, piece.first)", "self._word(task.output)", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/emit.py", "self._word(task.residual, piece.first)", "self._word(task.residual)", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/emit.py", "np.float32(layer.residual_scale)", "np.float32(1)", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/emit.py", '"n_tiles": layout.k_words(config, task.source.channels)', '"n_tiles": 1', "sw_driver/test_dags.py"),
    ("sw_driver/compiler/emit.py", '"residual": base + source.words(config)', '"residual": base', "sw_driver/test_strips.py"),
    ("sw_driver/compiler/emit.py", "channel=task.channel + first if", "channel=first if", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/emit.py", "same = parts == before", "same = bool(before)", "sw_driver/test_strips.py"),
    ("sw_driver/compiler/pages.py", "if page in forbidden:", "if False:", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/pages.py", "at = max(at, high)", "at = low", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/pages.py", "self.begin <= other.end and other.begin <= self.end", "self.begin < other.end and other.begin < self.end", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/pages.py", "if not busy & {page ^ mask for page in first}:", "if True:", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/strips.py", "low = first * self.stride - self.before", "low = first * self.stride", "sw_driver/test_strips.py"),
    ("sw_driver/compiler/strips.py", "start - low, high - stop", "0, high - low - stop + start", "sw_driver/test_strips.py"),
    ("sw_driver/compiler/tasks.py", "and not twice", "", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/tasks.py", "        if not own:\n", "        if True:\n", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/tasks.py", "elif part.whole(self.config):", "elif True:", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/tasks.py", "self.leaves[source] = node.name, first", "self.leaves[source] = node.name, 0", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/unfold.py", "Graph((nodes[0], *unfolds, *nodes[1:])) if unfolds else graph", "graph", "sw_driver/test_unfold.py"),
    ("sw_driver/compiler/pipeline.py", "(exponent | sign << machine.exponent_bits)", "layer.codes", "sw_driver/test_dags.py"),
    ("sw_driver/compiler/unfold.py", "node.groups != 1 or", "", "sw_driver/test_unfold.py"),
    ("sw_driver/compiler/unfold.py", "return through < direct", "return True", "sw_driver/test_unfold.py"),
    ("shiftforge/passes/reference.py", "slice(None, None, d) for d in window.dilation", "slice(None, None, 1) for _ in window.dilation", "sw_driver/test_unfold.py"),
    ("sw_driver/host.py", "self._last_unfolded[0] != key", "False", "sw_driver/test_unfold.py"),
    ("sw_driver/compiler/shares.py", "// config.rows * config.rows", "", "sw_driver/test_shares.py"),
    ("sw_driver/compiler/shares.py", "(last // outputs + 1) * inputs", "last // outputs * inputs + 1", "sw_driver/test_shares.py"),
    ("sw_driver/compiler/shares.py", "key=lambda cut: _cycles(config, reading, cut)", "key=lambda cut: -_cycles(config, reading, cut)", "sw_driver/test_shares.py"),
    ("sw_driver/compiler/tasks.py", "residual and residual.part(share.first, share.channels)", "residual", "sw_driver/test_shares.py"),
    ("sw_driver/compiler/tasks.py", "source.part(share.low, share.high - share.low)", "source.part(0, share.high - share.low)", "sw_driver/test_shares.py"),
    ("sw_driver/compiler/batches.py", "if stop not in best or total < best[stop][0]:", "if stop not in best:", "sw_driver/test_batches.py"),
    ("sw_driver/compiler/cost.py", "ceil_div(examples * reading.output_pixels, config.rows)", "examples * ceil_div(reading.output_pixels, config.rows)", "sw_driver/test_batches.py"),
    ("sw_driver/host.py", "saturate=self._saturate)\n        self.flags |= raised\n", "saturate=self._saturate)\n", "sw_driver/test_dags.py"),
    ("sw_driver/host.py", "self.tensors[name] = self._convert(self.tensors[name], self.config.output, self.config.activation)", "pass", "sw_driver/test_dags.py"),
    ("sw_driver/host.py", "np.where(nan, fmt.nan, np.where(raw", "np.where(False, fmt.nan, np.where(raw", "sw_driver/test_host.py"),
    ("sw_driver/values.py", "over | (units != exact)", "units != exact", "sw_driver/test_host.py"),
    ("shiftforge/passes/fold.py", "target.bias.astype(np.float64) * node.scale + node.bias", "target.bias.astype(np.float64) + node.bias", "sw_driver/test_compiler.py"),
    ("shiftforge/passes/fold.py", "layer.scale * added", "added", "sw_driver/test_compiler.py"),
    ("shiftforge/passes/quantise.py", "node.bias.astype(np.float64) / scale", "node.bias.astype(np.float64)", "sw_driver/test_compiler.py"),
    ("shiftforge/passes/quantise.py", "fp32_value(activation.hi) / scale", "fp32_value(activation.hi)", "sw_driver/test_compiler.py"),
    ("sw_driver/stream.py", "flip = phase.flip if flipped else 0", "flip = 0", "sw_driver/test_compiler.py"),
    ("sw_driver/accelerator.py", "(self._sequence + 1) & 0xFFFF\n        expected", "self._sequence + 1\n        expected", "sw_driver/test_accelerator.py"),
    ("sw_driver/accelerator.py", "self._check_errors(replies[-1], labels, error)", "pass", "sw_driver/test_accelerator.py"),
    ("sw_driver/accelerator.py", "w_bytes + pieces * x_bytes", "w_bytes + x_bytes", "sw_driver/test_accelerator.py"),
    ("shiftforge/graph/weights.py", "np.ldexp(scale, offset)", "scale", "sw_driver/importers/test_pt2.py"),
    ("shiftforge/graph/weights.py", "exponent = np.where(shown, exponent, low[:, None])", "pass", "sw_driver/importers/test_masks.py"),
    ("shiftforge/graph/weights.py", "np.ascontiguousarray(present.T)", "np.ascontiguousarray(~present.T)", "sw_driver/importers/test_masks.py"),
    ("shiftforge/graph/build.py", "np.ascontiguousarray(mask[rows])", "np.ascontiguousarray(mask)", "sw_driver/importers/test_masks.py"),
    ("sw_driver/compiler/pipeline.py", "np.where(layer.mask, codes, masked)", "codes", "sw_driver/importers/test_masks.py"),
    ("shiftforge/graph/build.py", "beta - mean * scale", "beta - mean", "sw_driver/importers/test_pt2.py"),
    ("shiftforge/program.py", "if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:", "if False:", "shiftforge/test_program.py"),
    ("golden/network.py", "config.output if node.name in leaving else config.activation", "config.activation", "sw_driver/test_compiler.py"),
    ("shiftforge/graph/build.py", "np.moveaxis(rows.reshape(axes_of_rows), 1, -2)", "rows.reshape(axes_of_rows)", "sw_driver/importers/test_convolutions.py"),
    ("shiftforge/graph/build.py", "rows[order] = np.arange(len(order))", "rows[:] = order", "sw_driver/importers/test_convolutions.py"),
    ("shiftforge/graph/build.py", "places[order.reshape(-1)] = np.arange(order.size)", "places[:] = order.reshape(-1)", "sw_driver/importers/test_convolutions.py"),
    ("shiftforge/graph/weights.py", "for unit in (1.0, *found, *near, *beside):", "for unit in (1.0, *found):", "sw_driver/importers/test_onnx.py"),
    ("shiftforge/passes/fold.py", "if layer.window.padded and affine.bias.any():", "if False:", "sw_driver/importers/test_convolutions.py"),
    ("shiftforge/passes/fold.py", "by_group = affine.bias.reshape(layer.groups, 1, -1, 1)", "by_group = affine.bias[:1].reshape(1, 1, 1, 1) + np.zeros((layer.groups, 1, len(affine.bias) // layer.groups, 1))", "sw_driver/importers/test_convolutions.py"),
    ("shiftforge/passes/lower.py", "source = max(ready, key=lambda edge: order[edge])", "source = min(ready, key=lambda edge: order[edge])", "sw_driver/importers/test_convolutions.py"),
    ("shiftforge/passes/fuse.py", "replace(target, residual=names.get(node.residual, node.residual))", "replace(target, residual=node.residual)", "sw_driver/importers/test_convolutions.py"),
    ("shiftforge/passes/quantise.py", "given[node.residual] / scale", "given[node.source] / scale", "sw_driver/importers/test_convolutions.py"),
    ("shiftforge/passes/quantise.py", "joined = {groups[edge] for edge in node.inputs} | {node.name}", "joined = {groups[node.inputs[0]]} | {node.name}", "sw_driver/importers/test_convolutions.py"),
    ("sw_driver/importers/torch_ops.py", "if window.padded and not call.arguments", "if False and not call.arguments", "sw_driver/importers/test_convolutions.py"),
    ("sw_driver/importers/onnx_ops.py", '(less, more) if mode == "SAME_UPPER" else (more, less)', "(less, more)", "sw_driver/importers/test_onnx.py"),
    ("sw_driver/importers/onnx_ops.py", "weight = call.array(1) * call.number(\"alpha\", 1.0)", "weight = call.array(1)", "sw_driver/importers/test_onnx.py"),
    ("sw_driver/importers/onnx_ops.py", 'np.broadcast_to(bias.reshape(-1) * call.number("beta", 1.0)', "np.broadcast_to(bias.reshape(-1)", "sw_driver/importers/test_onnx.py"),
    ("shiftforge/graph/stored.py", '"residual_scale": node.residual_scale', '"residual_scale": 1.0', "sw_driver/importers/test_convolutions.py"),
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(
        tmp_path_factory.mktemp("faults"),
        "golden",
        "shiftforge",
        "sim",
        "sw_driver",
        "tests/sw_driver",
        "tests/shiftforge",
    )


@pytest.mark.slow
@pytest.mark.parametrize("test", relied_on(FAULTS))
def test_the_copy_passes_as_it_is(copy: Path, test: str) -> None:
    check_passes(copy, test)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_the_fault_is_found(copy: Path, fault: Fault) -> None:
    check_found(copy, fault)

"""Between plain networks and networks of trained power-of-two layers.

``convert`` puts the layers of a method in place of ``nn.Linear``, ``nn.Conv1d`` and ``nn.Conv2d``; ``freeze`` puts plain
layers, which hold the effective weights, back. Neither changes its argument.
"""

import copy
from collections.abc import Callable, Collection

import torch
from torch import nn

from golden.train.baselines import IncrementalPowerOfTwo
from golden.train.geometry import ShiftLayer
from golden.train.methods import Method, method_named
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode


def convert(model: nn.Module, bits: int, keep: Collection[str] = (), method: str = "denseshift") -> nn.Module:
    """A copy of ``model`` whose Linear, Conv1d and Conv2d layers are layers of ``method``.

    Methods that train from scratch as published (see ``METHODS``) draw their latents anew and do not use the given weights; the
    others start from them. Biases, all other layers, device, element type and training mode are taken over. Subclasses of
    Linear and of the convolutions stay as they are, because what they do with their weight is unknown.

    Parameters
    ----------
    bits : int
        2, 3 or 4.
    keep : collection of str
        Names, as in ``model.named_modules()``, of layers that stay as they are.
    method : str
        A name in ``METHODS``; "full" gives a plain copy.

    Raises
    ------
    InputError
        For other bits, an unknown method, a name in ``keep`` that the model has not, or a weight that another layer shares.
    """
    chosen = method_named(method)
    WeightCode(bits)
    if isinstance(keep, str):
        raise InputError(f"keep must be a collection of layer names, not {keep!r}")
    names = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for name in keep:
        if name not in names:
            raise InputError(f"every name in keep must be a layer of the model, not {name!r}")
    if chosen.linear is None:
        return copy.deepcopy(model)
    # A layer that is used twice is one object with several names: it is replaced once, and kept by any of its names.
    kept = {id(model.get_submodule(name)) for name in keep}
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if id(parameter) in owners and (_converts(module) or _converts(model.get_submodule(owners[id(parameter)]))):
                raise InputError(
                    f"a weight that becomes powers of two must belong to one layer, not to both "
                    f"{owners[id(parameter)]!r} and {name!r} ({key})"
                )
            owners.setdefault(id(parameter), name)

    def twin(module: nn.Module) -> nn.Module | None:
        return _shift_twin(module, bits, chosen) if id(module) not in kept and _converts(module) else None

    return replaced(model, twin)


def freeze(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose trained layers are plain ones with the effective weights (``+-2**e`` for DenseShift).

    The outputs are equal bit for bit on the same machine, and the export has one node per layer. ``InputError`` for an INQ
    layer with weights that are not yet fixed.
    """
    return replaced(model, lambda module: _plain_twin(module) if isinstance(module, ShiftLayer) else None)


def _converts(module: nn.Module) -> bool:
    return type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d)


def replaced(model: nn.Module, twin: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """A deep copy in which every module with a twin is its twin; asked of the original's modules, each once."""
    twins = {id(module): new for module in model.modules() if (new := twin(module)) is not None}
    if id(model) in twins:
        return twins[id(model)]
    # deepcopy takes its memo's answer for an object that it meets: the twin, instead of a copy.
    return copy.deepcopy(model, memo=dict(twins))


def _shift_twin(module: nn.Module, bits: int, method: Method) -> ShiftLayer:
    if method.linear is None or method.conv1d is None or method.conv2d is None:
        raise TypeError(f"the method must have layers, not {method.name!r}")
    twin: ShiftLayer
    if isinstance(module, nn.Linear):
        plain: nn.Linear | nn.Conv1d | nn.Conv2d = module
        twin = method.linear(
            module.in_features,
            module.out_features,
            bits,
            module.bias is not None,
            device=module.weight.device,
            dtype=module.weight.dtype,
        )
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        plain = module
        twin = (method.conv1d if isinstance(module, nn.Conv1d) else method.conv2d)(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            bits,
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
            groups=module.groups,
            bias=module.bias is not None,
            padding_mode=module.padding_mode,
            device=module.weight.device,
            dtype=module.weight.dtype,
        )
    else:
        raise TypeError(f"a layer to convert must be a Linear, a Conv1d or a Conv2d, not {type(module).__name__}")
    twin.take_weight(plain.weight.detach())
    if plain.bias is not None and twin.bias is not None:
        with torch.no_grad():
            twin.bias.copy_(plain.bias)
    return twin.train(module.training)


def _plain_twin(layer: ShiftLayer) -> nn.Module:
    if isinstance(layer, IncrementalPowerOfTwo) and not bool(layer.fixed.all()):
        raise InputError(
            f"all weights of an INQ layer must be fixed before it is frozen, not {int(layer.fixed.sum())} of "
            f"{layer.fixed.numel()}; call advance(model, 1.0)"
        )
    twin = layer.plain()
    with torch.no_grad():
        twin.get_parameter("weight").copy_(layer.weight)
        if layer.bias is not None:
            twin.get_parameter("bias").copy_(layer.bias)
    return twin.train(layer.training)

"""Between plain networks and DenseShift networks.

``convert`` puts shift layers in place of ``nn.Linear`` and ``nn.Conv2d``; ``freeze`` puts plain layers, which hold the
powers of two, back. Neither changes its argument.
"""

import copy
from collections.abc import Callable, Collection

from torch import nn

from golden.train.layers import DenseShiftConv2d, DenseShiftLayer, DenseShiftLinear
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode


def convert(model: nn.Module, bits: int, keep: Collection[str] = ()) -> nn.Module:
    """A copy of ``model`` whose Linear and Conv2d layers are DenseShift layers.

    The latents are drawn anew (the published method trains from scratch): the given weights are not used. Biases, all
    other layers, device, element type and training mode are taken over. Subclasses of Linear and Conv2d stay as they
    are, because what they do with their weight is unknown.

    Parameters
    ----------
    bits : int
        2, 3 or 4.
    keep : collection of str
        Names, as in ``model.named_modules()``, of layers that stay as they are.

    Raises
    ------
    InputError
        For other bits, a name in ``keep`` that the model has not, a convolution with non-zero padding values, or a
        weight that another layer shares.
    """
    WeightCode(bits)
    if isinstance(keep, str):
        raise InputError(f"keep must be a collection of layer names, not {keep!r}")
    names = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for name in keep:
        if name not in names:
            raise InputError(f"every name in keep must be a layer of the model, not {name!r}")
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
        return _shift_twin(module, bits) if id(module) not in kept and _converts(module) else None

    return _replaced(model, twin)


def freeze(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose DenseShift layers are ``nn.Linear`` and ``nn.Conv2d`` with weights ``+-2**e``.

    The outputs are equal bit for bit on the same machine, and the export has one node per layer.
    """
    return _replaced(model, lambda module: _plain_twin(module) if isinstance(module, DenseShiftLayer) else None)


def _converts(module: nn.Module) -> bool:
    return type(module) in (nn.Linear, nn.Conv2d)


def _replaced(model: nn.Module, twin: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """A deep copy in which every module with a twin is its twin; decided on the original, so that ids stay valid."""
    twins = {id(module): new for module in model.modules() if (new := twin(module)) is not None}
    if id(model) in twins:
        return twins[id(model)]
    # deepcopy takes its memo's answer for an object that it meets: the twin, instead of a copy.
    return copy.deepcopy(model, memo=dict(twins))


def _shift_twin(module: nn.Module, bits: int) -> DenseShiftLayer:
    twin: DenseShiftLayer
    if isinstance(module, nn.Linear):
        device, dtype, bias = module.weight.device, module.weight.dtype, module.bias
        twin = DenseShiftLinear(
            module.in_features, module.out_features, bits, bias is not None, device=device, dtype=dtype
        )
    elif isinstance(module, nn.Conv2d):
        if module.padding_mode != "zeros":
            raise InputError(f"padding_mode must be 'zeros', not {module.padding_mode!r}")
        device, dtype, bias = module.weight.device, module.weight.dtype, module.bias
        twin = DenseShiftConv2d(
            module.in_channels,
            module.out_channels,
            (module.kernel_size[0], module.kernel_size[1]),
            bits,
            stride=(module.stride[0], module.stride[1]),
            padding=module.padding if isinstance(module.padding, str) else (module.padding[0], module.padding[1]),
            dilation=(module.dilation[0], module.dilation[1]),
            groups=module.groups,
            bias=bias is not None,
            device=device,
            dtype=dtype,
        )
    else:
        raise TypeError(f"a layer to convert must be a Linear or a Conv2d, not {type(module).__name__}")
    if bias is not None and twin.bias is not None:
        twin.bias.data.copy_(bias.detach())
    return twin.train(module.training)


def _plain_twin(layer: DenseShiftLayer) -> nn.Module:
    device, dtype, bias = layer.weight_sign.device, layer.weight_sign.dtype, layer.bias
    twin: nn.Linear | nn.Conv2d
    if isinstance(layer, DenseShiftLinear):
        twin = nn.Linear(layer.in_features, layer.out_features, bias=bias is not None, device=device, dtype=dtype)
    elif isinstance(layer, DenseShiftConv2d):
        twin = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=bias is not None,
            device=device,
            dtype=dtype,
        )
    else:
        raise TypeError(f"a layer to freeze must be a DenseShift Linear or Conv2d, not {type(layer).__name__}")
    twin.weight.data.copy_(layer.weight.detach())
    if bias is not None and twin.bias is not None:
        twin.bias.data.copy_(bias.detach())
    return twin.train(layer.training)

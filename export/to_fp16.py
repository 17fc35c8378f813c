"""A network computes in 16 bits, with islands of 32 where 16 overflow: authored in PyTorch."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

if TYPE_CHECKING:
    from torch import Tensor

ISLANDS = (nn.InstanceNorm2d, nn.Linear)
"""Layers that stay in 32 bits. A variance of values above 256 overflows 16 bits, whose largest is
65504, and so does the length of a vector; a linear layer is the last one, and cheap."""


class Island(nn.Module):
    """A layer of one precision between layers of another: its input is brought to it."""

    def __init__(self, layer: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.layer, self.precision = layer.to(precision), precision

    def forward(self, x: Tensor) -> Tensor:
        """Compute in the layer's precision; the result stays in it."""
        result: Tensor = self.layer(x.to(self.precision))
        return result


class HalfInside(nn.Module):
    """A network of 16 bits inside that takes and gives 32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network returns, widened."""
        result: Tensor = self.network(x)
        return result.float()


def to_half(network: nn.Module) -> nn.Module:
    """Return a copy that computes in 16 bits but for ISLANDS, and takes and gives 32.

    Each layer with weights brings its input to its own precision; what lies between (additions,
    activations, blurs, norms of our own) runs in the precision of what comes, or in 32 bits where
    it asks for them. Batch normalisation is folded into the
    convolution before it, where there is one, as the exporter does.
    """
    half: nn.Module = fuse(network.eval())
    for parent in list(half.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, ISLANDS):
                setattr(parent, name, Island(layer, torch.float32))
            elif any(True for _ in layer.parameters(recurse=False)):
                setattr(parent, name, Island(layer, torch.float16))
    return HalfInside(half)


def emulate(half: nn.Module) -> nn.Module:
    """Return a copy of what to_half made that computes on any CPU as a GPU does.

    ONNX Runtime does not: on the CPU it drops the casts between the layers of a graph in 16 bits
    and computes in 32, so that weights alone are rounded and nothing ever overflows.
    """
    emulated = copy.deepcopy(half)
    for parent in list(emulated.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, Island) and layer.precision == torch.float16:
                setattr(parent, name, _Narrow(layer.layer))
    return emulated


class _Narrow(nn.Module):
    """A layer that takes and gives 16 bits, its weights too, and sums up in 32."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x.half().float()).half()
        return result

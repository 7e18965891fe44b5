"""torch tensors through the same casts: same bits, same device, straight-through gradient.

A CPU tensor shares its memory with NumPy and goes through the same code. A CUDA tensor stays on its device where
qsim.casting.torch_device covers the cast; else, as on other devices, it is cast on the host and sent back, with the
same bits. The modules torch_* here are the only ones that import torch, when a tensor arrives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.casting.encode import Quantized, decode, encode
from qsim.casting.quantize import quantize
from qsim.casting.torch_device import quantize_on_device
from qsim.errors import UserError
from qsim.spec import Spec


def to_numpy(value: Any) -> Any:
    """A tensor as an array (shared memory on the CPU); half and bfloat16 become float32; all else as it is."""
    if isinstance(value, tuple):
        return tuple(to_numpy(part) for part in value)
    if not isinstance(value, torch.Tensor):
        return value
    host = value.detach().cpu()
    if host.dtype in (torch.bfloat16, torch.float16):
        host = host.float()
    return host.numpy()


def from_numpy(array: NDArray[Any], like: torch.Tensor) -> torch.Tensor:
    """An array as a tensor on the device of `like`."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape)
    return tensor.to(like.device)


def quantize_tensor(
    x: torch.Tensor, spec: Spec, out: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """`quantize` of a tensor: dtype, device and shape of `x`; its gradient is that of the identity.

    bfloat16 and float16 tensors are cast as float32; the result is rounded to their dtype where that cannot
    hold it.
    """
    if not x.is_floating_point():
        raise UserError(f"quantize takes floating-point tensors, not {x.dtype}")
    if out is not None:
        return _write(x, spec, out, options)
    result = _StraightThrough.apply(x, spec, options)
    assert isinstance(result, torch.Tensor)
    return result


def _write(x: torch.Tensor, spec: Spec, out: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    if out.shape != x.shape or out.dtype != x.dtype:
        raise UserError(f"out must be a tensor of shape {tuple(x.shape)} and dtype {x.dtype}")
    shares_memory = (
        x.dtype in (torch.float32, torch.float64) and out.device.type == "cpu" and not out.requires_grad
    )
    if shares_memory:
        quantize(to_numpy(x), spec, out=out.numpy(), **{k: to_numpy(v) for k, v in options.items()})
        return out
    with torch.no_grad():
        return out.copy_(quantize_tensor(x, spec, **options))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor, spec: Spec, options: dict[str, Any]) -> torch.Tensor:
        if x.device.type == "cuda":
            narrow = x.dtype in (torch.bfloat16, torch.float16)
            result = quantize_on_device((x.float() if narrow else x).detach(), spec, **options)
            if result is not None:
                return result.to(x.dtype)
        arguments = {name: to_numpy(value) for name, value in options.items()}
        return from_numpy(quantize(to_numpy(x), spec, **arguments), x).to(x.dtype)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0], None, None


def encode_tensor(x: torch.Tensor, spec: Spec, **options: Any) -> Quantized:
    """`encode` of a tensor; codes, scale and zero point are tensors on its device."""
    q = encode(to_numpy(x), spec, **{name: to_numpy(value) for name, value in options.items()})
    tensors: dict[str, Any] = {
        name: None if getattr(q, name) is None else from_numpy(np.asarray(getattr(q, name)), x)
        for name in ("codes", "scale", "zero_point")
    }
    return replace(q, levels=tuple(from_numpy(np.asarray(level), x) for level in q.levels), **tensors)


def decode_tensor(q: Quantized) -> torch.Tensor:
    """`decode` of codes that are tensors: a tensor on their device."""
    host = replace(
        q,
        codes=to_numpy(q.codes),
        scale=to_numpy(q.scale),
        zero_point=to_numpy(q.zero_point),
        levels=to_numpy(q.levels),
    )
    return from_numpy(decode(host), q.codes)

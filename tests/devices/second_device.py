"""A second device without hardware: tensors on it lie in CPU memory, but cannot meet tensors on the CPU.

Its type, ``second``, is registered for the rest of the process, so each test runs in one of its own. An operator with
tensors on both devices (but for copies, and scalars that it reads entry by entry, as on any accelerator) and a
forgotten ``.to`` raise; reads back to the host are counted; it may lack float64, as Apple's does. Kernels are those of
the CPU: a real accelerator's rounding, memory and asynchronous execution are not imitated.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from mlprune import exact

NAME = "second"
COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}
READS = {  # operators whose result, or its shape, the host waits for
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.bincount.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.repeat_interleave.Tensor,
}
INDEXED = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}

_missing: set[torch.dtype] = set()
host_reads: Counter[str] = Counter()  # file and line of mlprune or transformers that waited for the device


def _count_read() -> None:
    frame = sys._getframe(1)
    while frame and (
        frame.f_code.co_name in ("__torch_function__", "__torch_dispatch__")  # only hand on what transformers does
        or not any(part in frame.f_code.co_filename for part in ("/mlprune/", "/transformers/"))
    ):
        frame = frame.f_back
    if frame:
        host_reads[f"{frame.f_code.co_filename}:{frame.f_lineno}"] += 1


class SecondTensor(torch.Tensor):
    """A tensor on the second device; ``held`` is its content, on the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "SecondTensor":
        if held.dtype in _missing:
            raise TypeError(f"device '{NAME}' has no {held.dtype}")
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=f"{NAME}:0",
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def tolist(self) -> Any:
        _count_read()
        return self.held.tolist()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SecondTensor":
        return SecondTensor(self.held.clone())

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"SecondTensor({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, *args, **(kwargs or {}))


def _map(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Apply a function to all tensors among an operator's arguments or results."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)([_map(function, part) for part in value])
    if isinstance(value, dict):
        return {name: _map(function, part) for name, part in value.items()}
    return value


def _run(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operator on the CPU; its results lie where it was asked for, or where its tensors lie."""
    here: list[SecondTensor] = []
    others: list[torch.Tensor] = []

    def hold(leaf: torch.Tensor) -> torch.Tensor:
        if isinstance(leaf, SecondTensor):
            here.append(leaf)
            return leaf.held
        others.append(leaf)
        return leaf

    held_args, held_kwargs = _map(hold, args), _map(hold, kwargs)
    if here and others and func not in COPIES:
        _check_mixed(func, args, others)
    wanted = kwargs.get("device")
    to_host = wanted is not None and torch.device(wanted).type != NAME
    by_mask = func in INDEXED and any(getattr(place, "dtype", None) == torch.bool for place in args[1])  # a nonzero
    if func in READS or by_mask or (to_host and here):
        _count_read()
    if wanted is not None and not to_host:
        held_kwargs["device"] = torch.device("cpu")
    if func is torch.ops.aten.histc.default and not held_args[0].is_floating_point():
        held_args = (held_args[0].float(), *held_args[1:])  # accelerators count integers, the CPU does not
    found = func(*held_args, **held_kwargs)
    if to_host or not (here or wanted is not None):
        return found
    known = {id(leaf.held): leaf for leaf in here}
    return _map(lambda leaf: known[id(leaf)] if id(leaf) in known else SecondTensor(leaf), found)


def _check_mixed(func: Any, args: Any, others: list[torch.Tensor]) -> None:
    """Raise where an accelerator does: only a scalar on the CPU may be read beside its tensors, entry by entry."""
    reads_scalar = func in INDEXED or torch.Tag.pointwise in func.tags
    writes_other = func._schema.is_mutable and not isinstance(args[0], SecondTensor)
    if writes_other or not reads_scalar or any(leaf.dim() > 0 for leaf in others):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found '{NAME}' and others")


class _Undispatched(TorchFunctionMode):
    """What torch builds below its dispatcher, tensors of Python numbers, is built on the CPU and moved."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func == torch.Tensor.data.__set__ and isinstance(args[0], SecondTensor):
            args[0].held = args[1].held  # the content changes with the rest of the tensor
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(args[0], SecondTensor):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(part).to(NAME) if isinstance(part, list) else part for part in index)
            args = (args[0], index, *args[2:])
        return func(*args, **kwargs)


class _Backend:
    """What torch asks of a device's module."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """There are no generators on the device."""

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        """There are no generators on the device."""


@cache
def _register() -> torch.library.Library:
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    library = torch.library.Library("_", "IMPL")
    library.fallback(_run, "PrivateUse1")
    return library


@contextmanager
def second_device(without_float64: bool = False) -> Iterator[torch.device]:
    """While open, modules and tensors can be moved to the second device.

    Args:
        without_float64: The device does not have that dtype, as Apple's does not, and the package knows.
    """
    _register()
    torch.__future__.set_swap_module_params_on_conversion(True)
    if without_float64:
        _missing.add(torch.float64)
        exact.WITHOUT_FLOAT64.add(NAME)
    with _Undispatched():
        yield torch.device(NAME)

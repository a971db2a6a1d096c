"""Stacked experts: parameters that hold one matrix for each expert, recognized by the products that use them.

Neither the name of such a parameter nor its shape says how it is used: it may be stored (experts, out_features,
in_features) or (experts, in_features, out_features), or not be a stack of matrices at all. The products show it.

Shapes: E experts, n tokens, k features that a product sums over.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mlprune.errors import UserError

# position of the left factor among the arguments; the right one follows
PRODUCTS = {
    torch.ops.aten.mm.default: 0,
    torch.ops.aten.bmm.default: 0,
    torch.ops.aten.addmm.default: 1,
    torch.ops.aten.baddbmm.default: 1,
    torch.ops.aten.mv.default: 0,
    torch.ops.aten.addmv.default: 1,
}

WITHOUT_ADDRESSES = {"xla"}  # kinds of devices

# takes the key, the expert, its inputs (n, k), and whether they are summed over the stored matrix' first dimension
See = Callable[[str, int, Tensor, bool], None]


class ExpertProducts(TorchDispatchMode):
    """Sees the matrix products with single experts of stacked weights, however the model writes them.

    It looks at what linear, matmul, einsum and the like come down to. Where all experts run in one batched product,
    rows of zeros are tokens that the router kept from an expert; they are left out.

    Args:
        stacks: Key to a function that returns a parameter of three dimensions, the first over experts.
        see: Called with every product's key, expert, inputs (n, k), and whether the weight is stored inputs first.

    Example:
        >>> weight = nn.Parameter(torch.ones(2, 4, 3))  # two experts, four outputs, three inputs
        >>> show = lambda key, expert, x, inputs_first: print(key, expert, x.shape, inputs_first)
        >>> with torch.no_grad(), ExpertProducts({"up": lambda: weight}, show):
        ...     y = nn.functional.linear(torch.ones(5, 3), weight[1])
        up 1 torch.Size([5, 3]) False
    """

    def __init__(self, stacks: Mapping[str, Callable[[], Tensor]], see: See) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's, without annotations
        self.stacks = stacks
        self.see = see

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in PRODUCTS and func._can_decompose():  # linear and matmul arrive whole in inference mode
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        if func in PRODUCTS:
            first = PRODUCTS[func]
            left, right = args[first : first + 2]
            self._look(right, left)
            self._look(left.transpose(-1, -2), right.transpose(-1, -2) if right.dim() > 1 else right[None])
        return func(*args, **kwargs)

    def _look(self, weight: Tensor, x: Tensor) -> None:
        """See a product ``x @ weight`` if the weight is a view of a stack."""
        for key, get in self.stacks.items() if weight.dim() > 1 else ():
            stored = get()
            if stored.device.type in WITHOUT_ADDRESSES:
                raise UserError(
                    f"{key}: products of single experts are recognized by the address of their weights, which tensors "
                    f"have none of on {stored.device.type}; prune this model on another device"
                )
            distance = weight.data_ptr() - stored.data_ptr()
            if 0 <= distance < stored.nbytes:
                self._see(key, stored, distance // stored.itemsize, weight, x)

    def _see(self, key: str, stored: Tensor, offset: int, weight: Tensor, x: Tensor) -> None:
        inputs_first = weight.stride(-2) == stored.stride(1) and weight.shape[-2] == stored.shape[1]
        inputs_last = weight.stride(-2) == stored.stride(2) and weight.shape[-2] == stored.shape[2]
        expert, within = divmod(offset, stored.stride(0))
        if inputs_first == inputs_last or within:  # another use, or a further part of a matrix whose inputs were seen
            return
        if weight.dim() == 2:
            for place in range(max(weight.numel() // stored[0].numel(), 1)):  # several where one product serves them
                self.see(key, expert + place, x, inputs_first)
        elif weight.stride(0) == stored.stride(0):
            for place, matrix in enumerate(x.unbind()):
                self.see(key, expert + place, matrix[(matrix != 0).any(-1)], inputs_first)


# owner and name of a parameter to whether its experts are stored inputs first, or None if it holds no experts
_KNOWN: WeakKeyDictionary[nn.Module, dict[str, bool | None]] = WeakKeyDictionary()


def stored_inputs_first(module: nn.Module, name: str) -> bool | None:
    """Tell how a stack of experts is stored, as far as its owner says or a forward has shown.

    Returns:
        Whether as (experts, in_features, out_features), else (experts, out_features, in_features); None if the
        parameter holds no experts.

    Raises:
        KeyError: If that is not known yet.

    Example:
        >>> owner = nn.Module()
        >>> owner.is_transposed = True
        >>> stored_inputs_first(owner, "down_proj")
        True
    """
    declared = getattr(module, "is_transposed", None)  # set by transformers on the owners of its experts
    return declared if isinstance(declared, bool) else _KNOWN[module][name]


def learn_storage(module: nn.Module, name: str, inputs_first: bool | None) -> None:
    """Keep for :func:`stored_inputs_first` how a stack was seen used, or None: as something else."""
    _KNOWN.setdefault(module, {})[name] = inputs_first


@contextmanager
def experts_one_by_one(model: nn.Module) -> Iterator[None]:
    """Let transformers run experts one after the other for a while, so that each one's inputs can be seen.

    Example:
        >>> with experts_one_by_one(nn.Linear(1, 1)):
        ...     pass
    """
    found = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    configs: list[Any] = [c for c in found.values() if getattr(c, "_experts_implementation_internal", None)]
    before = [config._experts_implementation_internal for config in configs]
    try:
        for config in configs:
            config._experts_implementation_internal = "eager"
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._experts_implementation_internal = implementation

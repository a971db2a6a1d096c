"""A model without its weights: its modules and their shapes, from the configuration alone."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import meta_device_safe_creation_ops, no_init_weights, no_tie_weights

from mlprune.errors import UserError
from mlprune.models.config import auto_class, config_error
from mlprune.models.folder import CONFIG

MAX_BUFFER_BYTES = 8 * 2**30


def build_on_meta(config: PreTrainedConfig, folder: Path, num_tensors: int, **options: Any) -> PreTrainedModel:
    """Return a model all of whose tensors are on the meta device, with no weights tied.

    Args:
        config: Its configuration.
        folder: Where that comes from.
        num_tensors: Tensors in the checkpoint; a model of very many more is not built to its end.
        options: Further arguments of ``from_config``.

    Raises:
        UserError: If it cannot be built, or would need much more memory than its weights.
    """
    file = folder / CONFIG
    limit = 1000 + 100 * num_tensors
    too_large = UserError(f"'{file}' describes a model of more than {limit} tensors; the weights are {num_tensors}")
    try:
        with (
            torch.device("meta"),
            meta_device_safe_creation_ops(),
            no_init_weights(),
            no_tie_weights(),
            _at_most(limit, too_large),
        ):
            model: PreTrainedModel = auto_class(config).from_config(config, **options).eval()
    except UserError:
        raise
    except Exception as error:  # constructors of hundreds of architectures raise what they like
        raise config_error(file, error) from error
    computed = sum(buffer.nbytes for _, buffer in model.named_non_persistent_buffers())
    if computed > MAX_BUFFER_BYTES:
        raise UserError(f"'{file}' describes a model that needs {computed / 2**30:.0f} GiB beside its weights")
    return model


def _at_most(limit: int, error: UserError) -> AbstractContextManager[None]:
    """Stop building a model that registers more parameters than this."""
    count = 0

    def counted(parameter: nn.Parameter | None) -> nn.Parameter | None:
        nonlocal count
        count += 1
        if count > limit:
            raise error
        return parameter

    return registering(counted)


@contextmanager
def registering(change: Callable[[nn.Parameter | None], nn.Parameter | None]) -> Iterator[None]:
    """While open, every parameter that a module registers passes through a function first."""
    original = nn.Module.register_parameter

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        original(self, name, change(param))

    nn.Module.register_parameter = register  # type: ignore[method-assign]  # torch has no hook for this
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]  # as above

"""One forward of a few tokens, to see a model's blocks at work: the first block of each kind runs, others are passed.

So it costs little, and of a model that is read block by block only few blocks are read.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from mlprune.errors import UserError
from mlprune.models.encoder import has_encoder

Rerun = Callable[[Tensor], Tensor]
TOKENS = 31  # a prime, so that a model that pads its input by itself shows


class Stop(Exception):
    """Ends a forward pass as soon as everything needed was seen."""


@contextmanager
def patched_forwards(replacements: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Replace the forward of modules for a while; a module's attributes, which models read, stay in reach."""
    given = {
        module: vars(module)["forward"] for module in replacements if "forward" in vars(module)
    }  # of split weights
    try:
        for module, forward in replacements.items():
            module.forward = forward
        yield
    finally:
        for module in replacements:
            del module.forward
        for module, forward in given.items():
            module.forward = forward


def kind_of(module: nn.Module) -> Hashable:
    """Return what blocks of one kind have in common: the names and classes of their parts, and all shapes.

    Example:
        >>> kind_of(nn.Linear(2, 3)) == kind_of(nn.Linear(2, 3)) != kind_of(nn.Linear(2, 4))
        True
    """
    parts = tuple((name, type(part)) for name, part in module.named_modules())
    return parts, tuple((name, tuple(parameter.shape)) for name, parameter in module.named_parameters())


def probe_inputs(model: Any) -> dict[str, Any]:
    """Return inputs of a few tokens, none of them a usual special token, for a transformers model's forward."""
    device = next((p.device for p in model.parameters() if not p.is_meta), torch.device("cpu"))
    ids = torch.arange(11, 11 + TOKENS, device=device)[None] % model.get_input_embeddings().weight.shape[0]
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    if has_encoder(model):
        inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": torch.ones_like(ids)}
    return inputs


@torch.no_grad()
def run_each_kind(
    model: Any,
    blocks: list[nn.Module],
    watching: Callable[[int, Tensor, Rerun], AbstractContextManager[None]],
) -> None:
    """Run a model up to its output head on a few tokens.

    Args:
        model: A transformers model.
        blocks: Its blocks.
        watching: Returns what is to be open while the block of this position runs on these hidden states; its last
            argument runs the block again, on hidden states of the same shape.

    Raises:
        UserError: If the model runs, but its blocks cannot, or not in this order.
    """
    kinds = [kind_of(block) for block in blocks]
    outputs: dict[Hashable, Any] = {}
    called: list[int] = []

    def passing(position: int, original: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if position != len(called):  # also where the model goes through them again
                raise UserError(
                    f"{type(model).__name__}: its blocks do not run one after the other as they stand in lists"
                )
            called.append(position)
            kind = kinds[position]
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            if kind in outputs:
                return hidden if isinstance(outputs[kind], Tensor) else (hidden, *outputs[kind][1:])

            def rerun(changed: Tensor) -> Tensor:
                if "hidden_states" in kwargs:
                    output = original(*args, **{**kwargs, "hidden_states": changed})
                else:
                    output = original(changed, *args[1:], **kwargs)
                return output if isinstance(output, Tensor) else output[0]

            with watching(position, hidden, rerun):
                outputs[kind] = original(*args, **kwargs)
            return outputs[kind]

        return forward

    def stop(module: nn.Module, args: Any) -> None:
        raise Stop

    training, head = model.training, model.get_output_embeddings()
    ends = isinstance(head, nn.Linear)  # FSMT names its decoder's embeddings
    handle = head.register_forward_pre_hook(stop, prepend=True) if ends else None
    model.eval()
    try:
        with patched_forwards({b: passing(i, b.forward) for i, b in enumerate(blocks)}), suppress(Stop):
            model(**probe_inputs(model))
    except UserError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, AssertionError) as error:
        if handle is not None:
            handle.remove()
        model(**probe_inputs(model))  # if that fails, too, it says what is wrong
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{type(model).__name__}: its blocks cannot be run one by one ({reason})") from error
    finally:
        if handle is not None:
            handle.remove()
        model.train(training)

"""The device that is compared with the CPU: the simulated one, or a real one with ``--device cuda`` or ``xla``.

On the simulated device all is equal but for rounding of sums. On XLA masks are equal (but for a near tie) and scores
within 1e-5; on CUDA, which adds up in another order, a few entries of masks differ.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

_PARSER = argparse.ArgumentParser()
_PARSER.add_argument("families", nargs="*")
_PARSER.add_argument("--device", default="second", choices=("second", "cuda", "xla"))
_PARSER.add_argument("--no-float64", action="store_true", help="the simulated device has none, as Apple's")
_PARSER.add_argument("--all", action="store_true", help="every method in every propagation, and streaming")
_PARSER.add_argument("--case", help="only this one")
IS_SCRIPT = (
    Path(sys.argv[0]).absolute().parent == Path(__file__).absolute().parent
)  # else pytest only looks at the file
OPTIONS = _PARSER.parse_args(sys.argv[1:] if IS_SCRIPT else [])
NAME: str = OPTIONS.device
TURNED = 3e-2  # share of a mask's entries that may differ where a near tie turned, and what comes after it with it
DIFFERING = TURNED if NAME == "cuda" else 0.0
Case = Callable[[str], None]


@contextmanager
def opened() -> Iterator[None]:
    """While open, tensors and modules can be moved to the device."""
    if NAME == "second":
        from devices.second_device import second_device

        with second_device(OPTIONS.no_float64):
            yield
        return
    if NAME == "xla":
        os.environ.setdefault("PJRT_DEVICE", "CPU")
        import torch_xla.experimental

        torch_xla.experimental.eager_mode(True)  # operators are compiled one by one: whole programs take minutes
        torch.zeros(1, device=NAME)  # before the first gradient, for which PyTorch counts devices
    yield


def on_device(model: PreTrainedModel) -> PreTrainedModel:
    if NAME == "xla":
        if hasattr(model.config, "num_local_experts"):  # transformers' other ways count by operators that XLA lacks
            model.set_experts_implementation("eager")
        model.to(NAME)  # type: ignore[arg-type]
        model.tie_weights()  # which moving to XLA unties
        return model
    return model.to(NAME)  # type: ignore[arg-type]  # transformers wraps it without types


def on_host(value: Any) -> Any:
    """Tensors of the device, among others and in dicts and lists, on the CPU."""
    if isinstance(value, Tensor):
        return getattr(value, "held", value).cpu()
    if isinstance(value, dict):
        return {name: on_host(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_host(part) for part in value)
    return value


def check_equal(
    what: str,
    one: dict[str, Tensor],
    other: dict[str, Tensor],
    tolerance: float = 0.0,
    share: float = DIFFERING,
) -> None:
    """Masks but for a share of their entries, or numbers up to a tolerance."""
    assert one.keys() == other.keys(), f"{what}: other layers"
    for name, tensor in one.items():
        if tensor.dtype == torch.bool:
            differing = int((tensor != other[name]).sum())
            assert differing <= share * tensor.numel(), f"{what}, {name}: {differing} entries differ"
        else:
            torch.testing.assert_close(
                tensor, other[name], rtol=0, atol=tolerance, msg=lambda m, name=name: f"{what}, {name}: {m}"
            )


def run_cases(cases: Sequence[Case]) -> None:
    """Run the cases that the command line names, on each family."""
    chosen = [case for case in cases if OPTIONS.case in (None, case.__name__)]
    with opened():
        for family in OPTIONS.families:
            for case in chosen:
                case(family)
                print(family, case.__name__, "passed", f"{time.process_time():.1f} s", flush=True)

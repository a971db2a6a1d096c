"""Whether a checkpoint holds the weights of the model that its config.json describes: no more, no less, of its shapes.

transformers draws weights at random where a checkpoint lacks them, and passes over those it has no place for. Here its
own rules are applied to the headers of the files and to the model on the meta device, before any weight is read, so
that loading into memory and streaming give the same verdict.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import logging

from mlprune.errors import NOT_FINITE, UserError
from mlprune.log import log
from mlprune.models.conversion import Conversion
from mlprune.models.shards import Entry, is_finite

# constants that older versions stored and newer ones compute
CONSTANTS = re.compile(
    r"(?:^|\.)(?:inv_freq|position_ids|masked_bias|causal_mask|(?:attn|attention|self_attention)\.bias"
    r"|embed_positions\.weights)$"
)
# parts beside the language model: eyes, ears and voice, prediction of further tokens, heads of other tasks
OTHER_PARTS = re.compile(
    r".*(vision|visual|image|img|video|audio|speech|sound|talker|code2wav|token2wav|projector|multi_?modal|mm_|qformer"
    r"|query_tokens|connector|resampler|mtp|nextn|medusa|eagle).*"
    r"|language_projection|score|scores|classifier|classification_head|class_head|cls|pooler|v_head|value_head"
    r"|reward_head|rewards?|regression_head|qa_outputs|multiple_choice_head|summary|sequence_summary"
)
NUM_PREDICTION_LAYERS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")
SHOWN = 3


@dataclass
class Verdict:
    """What does not fit between a checkpoint and a model.

    Args:
        total: Weights that the model has; tied ones once, unless they are missing.
        missing: Names in the model without a tensor in the checkpoint.
        misshapen: Names, with the shape in the checkpoint and the shape in the model.
        unexpected: Names in the checkpoint that should have a place in the model.
        duplicated: Names in the model for which the checkpoint has several tensors.
        unused: Names in the checkpoint of parts that the model does not have.
        unmerged: Names in the model whose tensors cannot be merged.
        integers: Names in the checkpoint of integers, with their dtype, where the model has floating-point weights.
    """

    total: int
    missing: list[str] = field(default_factory=list)
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    unmerged: list[str] = field(default_factory=list)
    integers: list[str] = field(default_factory=list)

    def check(self, folder: str | Path) -> None:
        """Refuse a checkpoint that does not fit; say in one warning what of it is not used.

        Args:
            folder: The checkpoint, as it is named to the user.

        Raises:
            UserError: If weights are missing, misshapen or without a place, naming the first of them.
        """
        faults = []
        if self.missing:
            faults.append(f"lacks {len(self.missing)} of {self.total} weights of the model: {_some(self.missing)}")
        if self.misshapen:
            shapes = [f"{name} {have} for {wanted}" for name, have, wanted in self.misshapen]
            faults.append(f"has weights whose shapes do not match config.json: {_some(shapes)}")
        if self.integers:
            faults.append(f"has unscaled integers, as if quantized: {_some(self.integers)}")
        if self.unmerged:
            faults.append(f"has tensors that cannot be merged into {_some(self.unmerged)}")
        if self.duplicated:
            faults.append(f"has several tensors for {_some(self.duplicated)}")
        if self.unexpected:
            faults.append(f"has {_some(self.unexpected)}, which has no place in the model that config.json describes")
        if faults:
            raise UserError(
                f"'{folder}' {'; it '.join(faults)}; download it again, or make config.json fit the weights"
            )
        if self.unused:
            log.warning(
                "'%s': tensors of parts that the language model does not have are not used: %s",
                folder,
                _some(self.unused),
            )


def _some(names: list[str]) -> str:
    more = f" (and {len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return ", ".join(map(shown, names[:SHOWN])) + more


def shown(name: str) -> str:
    """Return a name that was read from a file, without control characters and not longer than a line.

    Example:
        >>> shown("lm_head.weight\\x1b[31m")
        'lm_head.weight?[31m'
    """
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return printable if len(printable) <= 120 else f"{printable[:120]}..."


def verdict(model: PreTrainedModel, entries: Mapping[str, Entry]) -> Verdict:
    """Compare a checkpoint with a model.

    Args:
        model: On the meta device, with no weights tied; it is used up.
        entries: The checkpoint's tensors, without prefixes of wrappers.
    """
    conversion = Conversion(model, entries)
    duplicated, integers = conversion.duplicated(), sorted(_integers(model, conversion, entries))
    constants = {name for name, _ in model.named_buffers()} - model.state_dict().keys()
    apart = model.state_dict().keys() - model.all_tied_weights_keys.keys()
    tensors = {name: torch.empty(entry.shape, dtype=entry.dtype, device="meta") for name, entry in entries.items()}
    rules: Any = get_model_conversion_mapping(model)
    config = LoadStateDictConfig(device_map={"": "meta"}, weight_mapping=rules)
    with _quiet():
        report, _ = convert_and_load_state_dict_in_model(model, tensors, config)
        model.tie_weights(missing_keys=report.missing_keys, recompute_mapping=False)
        surplus = {name for name in report.unexpected_keys if not _is_constant(name, constants, entries)}
        model._adjust_missing_and_unexpected_keys(report)
    parts = {name for name in surplus if _is_of_another_part(model, name)}
    return Verdict(
        total=len(apart | report.missing_keys),
        missing=sorted(report.missing_keys),
        misshapen=sorted((name, tuple(have), tuple(want)) for name, have, want in report.mismatched_keys),
        unexpected=sorted(surplus & report.unexpected_keys - parts),
        duplicated=sorted(duplicated),
        unused=sorted(parts),
        unmerged=sorted(report.conversion_errors),
        integers=integers,
    )


def _integers(model: PreTrainedModel, conversion: Conversion, entries: Mapping[str, Entry]) -> Iterator[str]:
    """Tensors of integers or truth values that would be taken for weights as they are."""
    for name, weight in model.state_dict().items():
        for key in conversion.keys(name) if weight.is_floating_point() else ():
            if not entries[key].dtype.is_floating_point:
                yield f"{key} ({str(entries[key].dtype).removeprefix('torch.')})"


def _is_constant(name: str, constants: set[str], entries: Mapping[str, Entry]) -> bool:
    """Tell whether a tensor is one that the model computes; a learned bias is a vector, a mask is none."""
    is_vector = name in entries and len(entries[name].shape) == 1
    return name in constants or (CONSTANTS.search(name) is not None and not (name.endswith(".bias") and is_vector))


def _is_of_another_part(model: PreTrainedModel, name: str) -> bool:
    """Tell whether a tensor without a place belongs to a part beside the language model.

    Its path leaves the model's own modules at the model itself or its base, not inside a block, and there it has the
    name of such a part; or it is a layer for further tokens, numbered after the last.
    """
    parts = name.split(".")
    known = 0
    while known < len(parts) and _has_module(model, ".".join(parts[: known + 1])):
        known += 1
    parent = model.get_submodule(".".join(parts[:known]))
    if isinstance(parent, PreTrainedModel):
        return known < len(parts) and OTHER_PARTS.fullmatch(parts[known].lower()) is not None
    number = parts[known] if known < len(parts) else ""
    if isinstance(parent, torch.nn.ModuleList) and number.isdecimal():
        return len(parent) <= int(number) < len(parent) + _num_prediction_layers(model)
    return False


def _has_module(model: PreTrainedModel, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _num_prediction_layers(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    given = [getattr(config, key, None) for key in NUM_PREDICTION_LAYERS]
    return max((number for number in given if isinstance(number, int)), default=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no table for what only looks at names and shapes; the verdict says what they would."""
    library: Any = logging  # untyped
    bar, level = library.is_progress_bar_enabled(), library.get_verbosity()
    library.disable_progress_bar()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bar:
            library.enable_progress_bar()


def check_finite(model: PreTrainedModel, folder: str | Path) -> None:
    """Refuse a model of which a weight is NaN or infinite, wherever it is: calibration never sees the output head.

    Args:
        model: The model, loaded.
        folder: The checkpoint, as it is named to the user.

    Raises:
        UserError: If there is such a weight, naming it.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.itemsize > 1 and not is_finite(parameter.detach()):
            raise not_finite(name, folder)


def not_finite(name: str, folder: str | Path) -> UserError:
    """Return an error that names a weight that holds NaN or Inf."""
    return UserError(f"'{folder}': {shown(name)} holds NaN or Inf; {NOT_FINITE}")


def check_report(model: PreTrainedModel, report: Mapping[str, Any], folder: str | Path) -> None:
    """Refuse a model of which transformers says that it could not load all.

    Args:
        model: The model, loaded.
        report: What ``from_pretrained`` returned beside it with ``output_loading_info``.
        folder: The checkpoint, as it is named to the user.

    Raises:
        UserError: If weights are missing, misshapen or without a place.
    """
    surplus = [name for name in report["unexpected_keys"] if not CONSTANTS.search(name)]
    Verdict(
        total=len(model.state_dict()),
        missing=sorted(report["missing_keys"]),
        misshapen=sorted((name, tuple(have), tuple(want)) for name, have, want in report["mismatched_keys"]),
        unexpected=sorted(name for name in surplus if not _is_of_another_part(model, name)),
    ).check(folder)

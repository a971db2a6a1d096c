"""Units of the feed-forward layers switched off while a model is evaluated."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from typing_extensions import override

from mlprune.analysis.lape import random_units
from mlprune.analysis.units import find_units, silenced
from mlprune.errors import UserError
from mlprune.interventions.base import Intervention
from mlprune.log import log

UNITS = "units.json"


class UnitAblation(Intervention):
    """Zeroes the activations of feed-forward units, before a gate multiplies them.

    Give the units, or the folder of a count (``LanguageUnits``) and the language whose units they are. Source: Tang et
    al. 2024, "Language-Specific Neurons: The Key to Multilingual Capabilities in Large Language Models".

    Args:
        units: Position of a block to units.
        run: Folder with units.json.
        lang: Language of that file.
        random: As many other units of each block instead, at random.
        seed: Seed of the random ones.

    Raises:
        UserError: If not exactly one of units and run is given, or the folder has no units of the language.

    Example:
        >>> import torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
        >>> with UnitAblation({0: [3]}).applied(model):
        ...     bool(model.transformer.h[0].mlp.act(torch.ones(1, 16))[0, 3])
        False
    """

    def __init__(
        self,
        units: dict[int, list[int]] | None = None,
        run: str | Path | None = None,
        lang: str | None = None,
        random: bool = False,
        seed: int = 0,
    ) -> None:
        if (units is None) == (run is None) or (run is None) != (lang is None):
            raise UserError("UnitAblation: give either units, or run and lang")
        if units is None:
            assert run is not None
            assert lang is not None
            units = _read(Path(run), lang, random, seed)
        self.units = {int(block): sorted(indices) for block, indices in units.items()}

    @override
    def check(self, model: nn.Module) -> None:
        with silenced(find_units(model), self.units):
            pass

    @override
    def results(self) -> dict[str, Any]:
        return {"num_units": sum(map(len, self.units.values()))}

    @override
    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        log.info("without %d units of %d blocks", sum(map(len, self.units.values())), len(self.units))
        with silenced(find_units(model), self.units):
            yield


def _read(run: Path, lang: str, random: bool, seed: int) -> dict[int, list[int]]:
    if not (run / UNITS).is_file():
        raise UserError(f"'{run / UNITS}' is missing; give a run folder of LanguageUnits")
    content = json.loads((run / UNITS).read_text(encoding="utf-8"))
    chosen = {
        name: {int(block): indices for block, indices in found.items()} for name, found in content["units"].items()
    }
    if lang not in chosen:
        raise UserError(f"'{run / UNITS}' has no language '{lang}'; give one of {', '.join(chosen)}")
    if not chosen[lang]:
        raise UserError(f"'{run / UNITS}': '{lang}' has no unit; count with a higher top_rate")
    return random_units(chosen, lang, content["widths"], seed) if random else chosen[lang]

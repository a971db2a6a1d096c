"""Calibrations of dense models that recipes share: each group of prompts is read once, for all that look at it."""

from collections.abc import Hashable, Iterable, Mapping

from torch import Tensor

from mlprune.callbacks.calibration import Job, RecipeCalibration
from mlprune.experiments.stages import Stages
from mlprune.experiments.variants import Variant, demonstrations_key, prompt_settings
from mlprune.log import log
from mlprune.pruning import (
    Importance,
    LayerStatistics,
    Pruner,
    Statistic,
    load_statistics,
    merge_statistics,
    save_statistics,
)
from mlprune.run import Run
from mlprune.runs.facts import digest

Statistics = Mapping[str, LayerStatistics]


class Calibrations:
    """Statistics of dense models, kept in ``statistics.safetensors`` and, for further seeds, ``statistics.1...``.

    Args:
        run: The run.
        stages: The stages that calibrate.
        schedule: The callback whose steps they take.
    """

    def __init__(self, run: Run, stages: Stages, schedule: RecipeCalibration) -> None:
        self.run = run
        self.stages = stages
        self.schedule = schedule
        self._held: dict[str, dict[str, LayerStatistics]] = {}
        self._files: dict[str, str] = {}
        self._names: dict[str, dict[str, str]] = {}  # calibration to demonstrations to the group's name there

    def expect(self, variants: Iterable[Variant]) -> None:
        """Give the calibrations of some variants their files and their groups names, in order."""
        for variant in variants:
            if not needs_statistics(variant):
                continue
            key = _key(variant)
            number = len(self._files)
            self._files.setdefault(key, f"statistics{f'.{number}' if number else ''}.safetensors")
            names = self._names.setdefault(key, {})
            for group in groups_of(variant):
                wanted = demonstrations_key(variant.data, group)
                if wanted not in names:
                    free = (group, *(f"{group}.{number}" for number in range(1, len(names) + 1)))
                    names[wanted] = next(name for name in free if name not in names.values())

    def prepare(self, variants: Iterable[Variant]) -> None:
        """Calibrate what some variants need and is not known yet, each model, seed and kind of statistic once."""
        parts: dict[tuple[str, Hashable], list[Variant]] = {}
        for variant in variants:
            if needs_statistics(variant):
                parts.setdefault((_key(variant), prompt_settings(variant.data)), []).append(variant)
        for (key, _), groups in parts.items():
            self._calibrate(key, groups)

    def _calibrate(self, key: str, variants: list[Variant]) -> None:
        """Calibrate what variants need that choose prompts alike."""
        run, first, file = self.run, variants[0], self.run.folder / self._files[key]
        if key not in self._held and run.resumes and file.is_file():
            self._held[key] = load_statistics(file)
        known = next(iter(self._held.get(key, {}).values()), LayerStatistics({}, {})).means
        wanted = {
            name: variant.data.demonstrations[group]
            for variant in variants
            for group in groups_of(variant)
            if (name := self._names[key][demonstrations_key(variant.data, group)]) not in known
        }
        if not wanted:
            return
        log.info("calibrating the dense model once, seed %d: %s", first.seed, ", ".join(wanted))
        data = first.data.with_demonstrations(wanted)
        data.choose_prompts(run.module.tokenizer)
        needs = first.pruner.importance.needs
        assert needs is not None
        self.schedule.take(Job(data, Pruner(_Measuring(needs)), count_padding=first.count_padding))
        self.stages.validate(self.schedule)
        self._held[key] = merge_statistics([part for part in (self._held.get(key), self.schedule.statistics) if part])
        if run.writes and needs.is_stored:
            save_statistics(self._held[key], file)

    def of(self, variant: Variant) -> Statistics:
        """Return the statistics of a variant's groups, under its own names for them."""
        key = _key(variant)
        names = {group: self._names[key][demonstrations_key(variant.data, group)] for group in groups_of(variant)}
        return {path: _renamed(statistics, names) for path, statistics in self._held[key].items()}


def needs_statistics(variant: Variant) -> bool:
    """Return whether a variant needs statistics of the dense model."""
    allocation = variant.pruner.allocation
    if variant.pruner.importance.needs is None or not variant.prunes:
        return False
    return variant.propagate == "dense" or (allocation is not None and allocation.needs_statistics)


def groups_of(variant: Variant) -> list[str]:
    """Return the groups of prompts that a variant looks at."""
    return list(variant.pruner.importance.groups or variant.data.demonstrations)


def _key(variant: Variant) -> str:
    needs, data = variant.pruner.importance.needs, variant.data
    return digest([variant.model, variant.seed, variant.count_padding, data.max_batch_tokens, needs and needs.name])


def _renamed(statistics: LayerStatistics, names: Mapping[str, str]) -> LayerStatistics:
    chosen = statistics.only(list(names.values()))
    means = {group: chosen.means[name] for group, name in names.items()}
    return LayerStatistics(means, {group: chosen.tokens[name] for group, name in names.items()}, chosen.statistic)


class _Measuring(Importance):
    """Measures and scores nothing.

    Args:
        needs: What is measured.
    """

    def __init__(self, needs: Statistic) -> None:
        super().__init__()
        self.needs = needs

    def score(self, weight: Tensor, statistics: LayerStatistics | None, path: str) -> Tensor:
        """Return nothing: what was measured is scored elsewhere."""
        raise NotImplementedError

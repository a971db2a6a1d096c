"""The callback that counts in which languages the units of feed-forward layers are active."""

from functools import partial

from torch import Tensor

from mlprune.analysis.feature_figures import unit_curves
from mlprune.analysis.lape import ActivationCounts, Chosen, language_entropy, select_units
from mlprune.callbacks.features import save_figures
from mlprune.callbacks.one_pass import OnePass
from mlprune.errors import UserError
from mlprune.files import write_json, write_text
from mlprune.interventions.units import UNITS
from mlprune.log import log
from mlprune.present import Table, to_csv
from mlprune.run import Run


class LanguageUnits(OnePass[ActivationCounts]):
    """Finds the feed-forward units that are active in few languages (LAPE), one language a group of demonstrations.

    ``validate`` counts on how many tokens each unit's activation is above zero, and writes units.json (the chosen
    units of each language), units.csv (a line a chosen unit: language, block, unit, entropy, probability in every
    language) and a figure. ``fit`` goes on, and prunes nothing: it evaluates the model without each language's units,
    and without as many random ones, and writes the matrix of ablated by measured language. Source: Tang et al. 2024,
    "Language-Specific Neurons: The Key to Multilingual Capabilities in Large Language Models" (arXiv 2402.16438). Cost:
    a forward pass of the prompts, then two evaluations a language.

    Such units follow the script more than the language (arXiv 2604.05090), and tuning them did not help transfer across
    languages (arXiv 2503.17456).

    Args:
        top_rate: The share of all units that is chosen; the published code's is 0.01, or 0.05 in places.
        filter_rate: Units whose probability is above this quantile in no language are left out.
        bar_rate: A chosen unit belongs to the languages in which it is above this quantile.
        seed: Seed of the random units.

    Raises:
        UserError: If a group is not in one language, or two are in the same.
    """

    caption = "counting activations"

    def __init__(
        self, top_rate: float = 0.01, filter_rate: float = 0.95, bar_rate: float = 0.95, seed: int = 0
    ) -> None:
        super().__init__()
        for name, rate in (("top_rate", top_rate), ("filter_rate", filter_rate), ("bar_rate", bar_rate)):
            if not 0 < rate <= 1:
                raise UserError(f"LanguageUnits: {name} {rate} is not allowed; give more than 0, at most 1")
        self.rates = {"top_rate": top_rate, "filter_rate": filter_rate, "bar_rate": bar_rate}
        self.seed = seed
        self.chosen: Chosen = {}
        self.widths: list[int] = []

    def join(self, run: Run) -> None:
        """Check that every group of demonstrations is one language."""
        super().join(run)
        languages = {group: demonstrations.languages() for group, demonstrations in run.data.demonstrations.items()}
        for group, langs in languages.items():
            if len(langs) != 1:
                named = f"in {' and '.join(langs)}" if langs else "in no language"
                raise UserError(
                    f"LanguageUnits: data.demonstrations, group '{group}' is {named}; give MonolingualDemonstrations, "
                    "one for each language"
                )
        if len(set(languages.values())) < max(len(languages), 2):
            raise UserError("LanguageUnits: data.demonstrations needs at least two languages, each in one group")
        self._languages = {group: langs[0] for group, langs in languages.items()}

    def begin(self) -> ActivationCounts:
        """Know the model's units."""
        return ActivationCounts(self.run.model)

    def conclude(self, sums: ActivationCounts) -> None:
        """Choose the units, and write."""
        groups = self.run.groups
        probabilities = sums.probabilities(groups)
        self.widths = [layer.width for layer in sums.layers]
        names = [self._languages[group] for group in groups]
        self.chosen = select_units(probabilities, names, self.widths, **self.rates)
        found = {lang: sum(map(len, blocks.values())) for lang, blocks in self.chosen.items()}
        log.info("units by language: %s", ", ".join(f"{lang} {number}" for lang, number in found.items()))
        if self.run.writes:
            self._write(self.run, names, probabilities)

    def _write(self, run: Run, languages: list[str], probabilities: Tensor) -> None:
        content = {"units": self.chosen, "widths": self.widths, **self.rates}
        write_json(run.folder / UNITS, self.facts() | content)
        write_text(run.folder / "units.csv", units_csv(self.chosen, self.widths, languages, probabilities))
        save_figures(run, {"units": partial(unit_curves, self.chosen, len(self.widths))})


def units_csv(chosen: Chosen, widths: list[int], languages: list[str], probabilities: Tensor) -> str:
    """Return the chosen units as lines ``language,block,unit,entropy,p.<language>,...``.

    Example:
        >>> import torch
        >>> print(units_csv({"fr": {0: [1]}}, [2], ["fr", "sw"], torch.tensor([[0.5, 0.5], [0.5, 0.0]])), end="")
        language,block,unit,entropy,p.fr,p.sw
        fr,0,1,0,0.5,0
    """
    columns = ("language", "block", "unit", "entropy", *(f"p.{lang}" for lang in languages))
    rows = []
    entropy = language_entropy(probabilities)
    for lang, blocks in chosen.items():
        for block, units in blocks.items():
            for unit in units:
                place = sum(widths[:block]) + unit
                values = [float(entropy[place]), *probabilities[place].tolist()]
                rows.append((lang, str(block), str(unit), *(f"{value:.9g}" for value in values)))
    return to_csv(Table("units", columns, rows))

"""spBLEU: BLEU over sentencepiece tokens, comparable between target languages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
from sacrebleu.utils import SACREBLEU_DIR

from mlprune.errors import UserError, reason_of
from mlprune.metrics.additive import AdditiveMetric, Array, Record
from mlprune.metrics.measure import Measure
from mlprune.metrics.translation import BLEU_STATISTICS, corpus_bleu


class SpBleu(AdditiveMetric):
    """Corpus spBLEU, a further metric for translations: BLEU with the tokenizer of FLORES-200.

    The tokenizer is a model file, ``~/.sacrebleu/models/flores200sacrebleuspm``, which sacrebleu downloads once; the
    environment variable ``SACREBLEU`` names another folder.

    Source: Goyal et al. 2022, "The Flores-101 Evaluation Benchmark for Low-Resource and Multilingual Machine
    Translation"; NLLB Team 2022 for the model.

    Args:
        tokenizer: ``flores200`` or ``flores101``.

    Raises:
        UserError: If the tokenizer is another, or its file is missing and cannot be downloaded.
    """

    measures = (Measure("spbleu", "spBLEU", digits=1, bounds=(0.0, 100.0)),)
    answer = "output"
    given = ("reference",)
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, tokenizer: str = "flores200", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if tokenizer not in ("flores200", "flores101"):
            raise UserError(f"SpBleu: tokenizer '{tokenizer}' is not allowed; give flores200 or flores101")
        file = Path(SACREBLEU_DIR) / "models" / Path(SPM_MODELS[tokenizer]["url"]).name
        try:
            self.scorer = BLEU(tokenize=tokenizer)
        except Exception as error:  # sentencepiece raises what it likes of a damaged file
            problem = f"SpBleu: '{file}', a model of sacrebleu's, is missing or damaged and cannot be downloaded"
            raise UserError(f"{problem}: {reason_of(error)}; put it there, or leave SpBleu out") from error
        self.tokenizer = tokenizer
        self.scorer.num_refs = 1

    def statistics(self, records: Sequence[Record]) -> Array:
        """Return sacrebleu's statistics, (n, 10)."""
        if not records:
            return np.zeros((0, BLEU_STATISTICS))
        outputs, references = ([record[key] for record in records] for key in ("output", "reference"))
        return np.array(self.scorer._extract_corpus_statistics(outputs, [references]), dtype=np.float64)

    def values(self, sums: Array) -> dict[str, Array]:
        return {"spbleu": corpus_bleu(sums)}

"""What measures mean, in a sentence for readers who do not know them."""

from mlprune.metrics.measure import Measure

MEANINGS = {  # by the measure's name
    "accuracy": "Share of questions whose right answer the model preferred to every other candidate.",
    "auroc": "How well the scores order examples of two labels, whatever the threshold; 50% by chance. "
    "No constant added to a label's scores changes it.",
    "balanced_accuracy": "Mean over labels of the share of their examples that were answered correctly; "
    "always giving one label does not raise it.",
    "bits_per_byte": "How surprised the model is by a text, per byte of it; lower is better. It needs no task.",
    "bits_per_char": "How surprised the model is by a text, per character of it; lower is better. It needs no task; "
    "compare it within a language only, since scripts differ in what a character holds.",
    "bleu": "Word sequences that a translation shares with a reference, 0 to 100.",
    "calibration_error": "How far the model's confidence is from how often it is right; lower is better.",
    "chrf": "Letter and word sequences that a translation shares with a reference, 0 to 100.",
    "exact_match": "Share of answers that are the reference to the letter.",
    "f1": "Words that an answer shares with the reference: the harmonic mean of precision and recall.",
    "fertility": "Tokens that the tokenizer needs for a word; many mean that it knows the language badly.",
    "line_pass_rate": "Share of outputs with every line in the language that was asked for.",
    "margin": "How far the best candidate's log-likelihood is above the next one's.",
    "predicted": "Share of answers that this label got, right or wrong.",
    "rankc": "Cross-lingual consistency: how alike a question's candidate answers are ranked in two languages; "
    "1 is the same order. What two independent guesses give is listed as by chance.",
    "rankc_expected": "RankC of two models that guess independently; what is to be exceeded.",
    "recall": "Share of the examples with this right answer that were answered correctly.",
    "right_language": "Share of outputs in the language that was asked for.",
    "spbleu": "BLEU over SentencePiece tokens, which does not depend on how a language is split into words.",
    "token_perplexity": "How surprised the model is by a text, per token of it; lower is better. Compare it between "
    "models with one tokenizer only.",
    "word_pass_rate": "Share of outputs without a word of Latin script, in languages of other scripts.",
}


def meaning_of(measure: Measure) -> str:
    """Return what a measure means; empty for those of others.

    Example:
        >>> meaning_of(Measure("bleu"))
        'Word sequences that a translation shares with a reference, 0 to 100.'
        >>> meaning_of(Measure("accuracy_history")) == meaning_of(Measure("accuracy")), meaning_of(Measure("mine"))
        (True, '')
    """
    parts = measure.name.split("_")
    longest_first = ("_".join(parts[:size]) for size in range(len(parts), 0, -1))  # accuracy_CATEGORY
    return next((MEANINGS[name] for name in longest_first if name in MEANINGS), "")

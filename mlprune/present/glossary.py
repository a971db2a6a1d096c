"""What the words of tables mean, for readers who do not know them."""

GLOSSARY = {  # head of a column, or a word of captions
    "95% CI": "Interval that holds the true value in 95 of 100 experiments like this one; a wide one: few examples.",
    "95% CI of the difference": "Interval that holds the true difference in 95 of 100 experiments like this one. "
    "If it excludes zero, the change is clear.",
    "p": "How often a difference this large arises when the two systems' answers are swapped at random.",
    "p (Holm)": "The p value after correction for looking at several languages or systems (Holm's method); "
    "below 0.05 counts as significant.",
    "changed, %": "Share of examples whose answer changed, whether it became right or wrong.",
    "by chance": "What guessing gives; a model at this level shows nothing of the task.",
    "won": "Examples that only the second system answered rightly.",
    "lost": "Examples that only the first system answered rightly.",
    "n": "Number of examples.",
    "clusters": "Number of independent groups of examples; translations of one another count once.",
    "difference": "The second system minus the first, on the same examples.",
    "average without": "Mean over the languages except the one that the others are compared with.",
    "weights pruned, %": "Share of the layer's weights that were set to zero.",
    "score pruned away, %": "Share of the layer's total importance score that its pruned weights had; "
    "where it is large, pruning cut into what matters.",
    "threshold": "Lowest importance score that was kept.",
    "sparsity reached": "Share of all scored weights that are zero after pruning.",
    "importance": "How each weight was scored; in every row the lowest scores are pruned.",
    "pattern": "Which of the scored weights become zero, and how many.",
    "allocation": "How sparsity is distributed over the layers; uniform gives each the same.",
    "propagate": "Whether a block is calibrated on outputs of the blocks before it after pruning, or before.",
    "configuration hash": "Runs with the same hash had the same model, data and pruning settings.",
    "dense": "The model before pruning: all of its weights.",
    "pruned": "The model after pruning: the weights with the lowest scores are zero.",
    "trained": "The pruned model after recovery training, its zeros held.",
}


def meaning(word: str) -> str:
    """Return what a word means; empty if it explains itself.

    Example:
        >>> meaning("n"), meaning("average without Swahili")[:23], meaning("French")
        ('Number of examples.', 'Mean over the languages', '')
    """
    return GLOSSARY.get("average without" if word.startswith("average without ") else word, "")


def explained(words: list[str]) -> dict[str, str]:
    """Return those of some words that need explaining, with what they mean.

    Example:
        >>> list(explained(["n", "French", "p (Holm)"]))
        ['n', 'p (Holm)']
    """
    return {word: text for word in words if (text := meaning(word))}

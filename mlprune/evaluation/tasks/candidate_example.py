"""An example with candidate answers."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class CandidateExample:
    """An example with its candidates and the name of the right one.

    Args:
        id: The row's id, the same in every language.
        candidates: Full texts.
        names: What each candidate stands for: labels, or answers.
        label: Position of the right one.
        question: What precedes the answer; empty where the template has none, or one for each candidate.
        answers: What follows the question in each candidate.
        given: Beginning of each candidate that is not scored.
        group: Shared by dependent examples of a language, such as hypotheses of one premise.
        category: Its category, such as the grammatical phenomenon or the subject.

    Example:
        >>> CandidateExample("0", ("It is bad", "It is good"), ("negative", "positive"), label=1).names[1]
        'positive'
    """

    id: str
    candidates: tuple[str, ...]
    names: tuple[str, ...]
    label: int
    question: str = ""
    answers: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    group: str | None = None
    category: str | None = None

    def after(self, before: str) -> "CandidateExample":
        """Return the example with a text before it, such as solved examples, that is given and not scored.

        Args:
            before: The text.
        """
        return replace(
            self,
            candidates=tuple(before + text for text in self.candidates),
            given=tuple(before + text for text in self.given or [""] * len(self.candidates)),
            question=before + self.question if self.question else "",
        )

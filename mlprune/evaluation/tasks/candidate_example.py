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
        ranges: Characters of each candidate that are the row's own text, not words of a template; all if omitted.
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
    ranges: tuple[tuple[tuple[int, int], ...], ...] = ()
    group: str | None = None
    category: str | None = None

    def own_text(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Return for each candidate where the row's own text is, in characters.

        Example:
            >>> CandidateExample("0", ("Bad", "Good"), ("bad", "good"), label=1).own_text()
            (((0, 3),), ((0, 4),))
        """
        return self.ranges or tuple(((0, len(text)),) for text in self.candidates)

    def after(self, before: str) -> "CandidateExample":
        """Return the example with a text before it, such as solved examples, that is given and not scored.

        Args:
            before: The text.
        """
        return replace(
            self,
            candidates=tuple(before + text for text in self.candidates),
            given=tuple(before + text for text in self.given or [""] * len(self.candidates)),
            ranges=tuple(
                tuple((len(before) + start, len(before) + end) for start, end in ranges) for ranges in self.own_text()
            ),
            question=before + self.question if self.question else "",
        )

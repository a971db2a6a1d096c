"""The first screen of a report: did it help, on which tasks, for which languages, and how sure is that."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlprune.comparison import Difference, by_verdict, explained, verdict
from mlprune.languages import language_name
from mlprune.metrics.meaning import meaning_of
from mlprune.metrics.measure import AVERAGE, AVERAGE_ALL
from mlprune.present.rows import Key, interval_text, language_labels, title_of
from mlprune.text import listed

WORDS = {
    "better": "Better",
    "shift": "A shift of labels",
    "worse": "Worse",
    "higher": "Higher",
    "lower": "Lower",
    "same": "No answer changed",
    "unclear": "Too few to tell",
}
SENTENCES = {
    "better": "it got better on {}",
    "shift": "the gain is nothing but a shift of labels on {}",
    "worse": "it got worse on {}",
    "higher": "it is higher on {}",
    "lower": "it is lower on {}",
    "same": "no answer changed on {}",
    "unclear": "there are too few examples to tell on {}",
}


@dataclass(frozen=True)
class Finding:
    """What one task says of a change.

    Args:
        key: Task and measure.
        verdict: A key of ``WORDS``, as :func:`mlprune.comparison.verdict` returns it.
        title: What was measured.
        meaning: The same, for those who do not know the measure.
        text: How much the average changed, and how sure that is.
        languages: Which languages changed clearly, and which did not.
    """

    key: Key
    verdict: str
    title: str
    meaning: str
    text: str
    languages: str

    @property
    def word(self) -> str:
        """The verdict as a heading."""
        return WORDS[self.verdict]


def findings(rows: Sequence[Difference], tasks: Collection[str], controls: Sequence[Difference] = ()) -> list[Finding]:
    """Return what each task's first measure says, in the tasks' order.

    Args:
        rows: The differences of two systems.
        tasks: Names of the tasks that the answer is about; all if there are none.
        controls: Rows of the first system with constants.

    Example:
        >>> from mlprune.metrics import Measure
        >>> f1 = Measure("f1", "F1", unit="%", scale=100, digits=1)
        >>> row = Difference("pruned", "dense", "qa", "average", f1, 0.5, 0.6, 0.1, 0.02, 0.18, n=40)
        >>> (found,) = findings([row], ["qa"])
        >>> found.word, found.text
        ('Better', '50.0% before, 60.0% after, on average over languages: +10.0 points (95% CI +2.0 to +18.0, n = 40).')
    """
    chosen = [task for task in dict.fromkeys(row.task for row in rows) if task in tasks or not tasks]
    found = []
    for task in chosen:
        task_rows = [row for row in rows if row.task == task]
        task_rows = [row for row in task_rows if row.measure.name == task_rows[0].measure.name]
        average = next((row for row in task_rows if row.language == AVERAGE), None)
        if average is not None:
            languages = [row for row in task_rows if row.language not in (AVERAGE, AVERAGE_ALL)]
            measure = average.measure
            pivot = average.pivot or ("en" if len(task_rows) > len(languages) + 1 else None)
            found.append(
                Finding(
                    (task, measure.name),
                    verdict(average, average.clear, controls),
                    title_of(task, measure),
                    meaning_of(measure),
                    _change(average, f"outside {language_name(pivot)}" if pivot else "on average over languages")
                    + _beyond(average, controls),
                    _by_language(languages, controls),
                )
            )
    return found


def answer(found: Sequence[Finding]) -> str:
    """Return the answer in a few words.

    Example:
        >>> answer([Finding(("nli", "f1"), "worse", "", "", "", ""), Finding(("qa", "f1"), "unclear", "", "", "", "")])
        'No: it got worse on nli, and there are too few examples to tell on qa.'
    """
    on: dict[str, list[str]] = {}
    for each in found:
        on.setdefault(each.verdict, []).append(each.key[0])
    parts = [sentence.format(listed(on[word])) for word, sentence in SENTENCES.items() if word in on]
    sides = on.keys() & {"better", "worse"}
    no = sides or "shift" in on
    start = "It depends: " if len(sides) == 2 else "Yes: " if "better" in sides else "No: " if no else ""
    text = ", and ".join(parts)
    return f"{start}{text}." if start else f"{text[:1].upper()}{text[1:]}." if text else ""


def _beyond(row: Difference, controls: Sequence[Difference]) -> str:
    """What constants gain, of a gain that they explain."""
    found = explained(row, controls) if verdict(row, row.clear, controls) == "shift" else None
    if found is None:
        return ""
    gain, rest = found
    measure, interval = row.measure, interval_text(row.measure, rest.low, rest.high, sign=True)
    sure = f" (95% CI {interval})" if interval else ""
    return (
        f" {gain.system[:1].upper()}{gain.system[1:]} changes by {measure.amount(gain.delta)}; {row.system} is beyond "
        f"that by {measure.amount(rest.delta)}{sure}."
    )


def _change(row: Difference, where: str) -> str:
    measure = row.measure
    sign, unit = ("%", " points") if measure.unit == "%" else ("", f" {measure.unit}" if measure.unit else "")
    interval = interval_text(measure, row.low, row.high, sign=True)
    sure = f"95% CI {interval}, n = {row.n:,}" if interval else f"no interval, n = {row.n:,}"
    values = f"{measure.text(row.before)}{sign} before, {measure.text(row.after)}{sign} after"
    return f"{values}, {where}: {measure.text(row.delta, sign=True)}{unit} ({sure})."


def _by_language(rows: Sequence[Difference], controls: Sequence[Difference]) -> str:
    """Which languages changed, corrected for looking at several."""
    on = by_verdict(rows, controls)
    if not on.keys() - {"unclear", "same"}:
        return f"No clear change in any of {len(rows)} languages." if len(rows) > 1 else ""
    parts = []
    for name, alike in on.items():
        labels = language_labels([row.language for row in alike])
        parts.append(f"{WORDS[name] if name != 'unclear' else 'No clear change'} in {listed(labels)}.")
    return " ".join(parts)

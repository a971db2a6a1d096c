"""The endpoint: what decides a study, declared before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Endpoint:
    """What decides a study.

    Args:
        metric: Name of the measure, such as ``accuracy`` or ``bits_per_char``.
        tasks: Names of the tasks; all that have the measure if omitted.
        languages: Their languages, or pairs such as ``en-fr`` for measures of pairs; all but English if omitted.
        average: One average over tasks and languages decides; if false, each task and language is a claim of its own,
            corrected for all others.
        against: The recipe that the others are judged against; the dense model if omitted.
    """

    metric: str = "accuracy"
    tasks: list[str] | None = None
    languages: list[str] | None = None
    average: bool = True
    against: str | None = None

    def narrowed(self, part: Mapping[str, list[str]]) -> "Endpoint":
        """Return it with the ``tasks`` and ``languages`` that decide for one recipe, where it names some.

        Example:
            >>> Endpoint(tasks=["nli"], languages=["fr", "sw"]).narrowed({"languages": ["sw"]}).languages
            ['sw']
        """
        return replace(self, tasks=part.get("tasks", self.tasks), languages=part.get("languages", self.languages))

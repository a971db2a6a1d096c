"""When, where and how a run was made: what its run.json says; a run of an older version says nothing."""

from mlprune.present import Table
from mlprune.runs.content import RunContent
from mlprune.runs.reading import Json


def provenance(run: RunContent) -> dict[str, str]:
    """Return settings that are not of the experiment but of its making: date, command, time, machine.

    Args:
        run: A run; of one that was resumed, or merged from parts of a study, all starts count.

    Example:
        >>> from pathlib import Path
        >>> start = {"date": "2026-05-01T10:00:00+00:00", "command": "mlprune test", "processes": 2, "devices": 2,
        ...          "accelerator": "CUDA", "phases": [{"name": "evaluating the dense model", "seconds": 83.0}]}
        >>> found = provenance(RunContent(Path("v0"), "v0", starts=[start]))
        >>> found["date"], found["duration"], found["devices"]
        ('2026-05-01 10:00 UTC', '1 min 23 s: evaluating the dense model 1 min 23 s', '2 (CUDA), 2 processes')
    """
    if not run.starts:
        return {}
    first, last = run.starts[0], run.starts[-1]
    parts = {start["part"] for start in run.starts if start.get("part")}
    times = len(run.starts) - max(len(parts), 1)
    resumed = (f", in {len(parts)} parts" if parts else "") + (
        f", resumed {times} time{'s' * (times > 1)}" if times else ""
    )
    training: Json = next((start["training"] for start in reversed(run.starts) if start.get("training")), {})
    found = {
        "date": _date(first.get("date", "")) + resumed,
        "command": "; ".join(dict.fromkeys(str(start.get("command", "")) for start in run.starts)),
        "duration": _durations(run.starts),
        "machine": last.get("machine", ""),
        "devices": _devices(last),
        "dtype": last.get("dtype", ""),
        "threads": last.get("threads", ""),
        "learning rate": f"{training['learning_rate']:g}" if "learning_rate" in training else "",
        "optimizer": training.get("optimizer", ""),
        "optimizer steps": training.get("steps", ""),
    }
    return {name: str(value) for name, value in found.items() if value != ""}


def data_tables(run: RunContent | None) -> list[Table]:
    """Return the table of a run's data sets with their origins and the hashes of what was used; none if unknown."""
    data: Json = {
        name: part for start in (run.starts if run else []) for name, part in (start.get("data") or {}).items()
    }
    rows = [(name, str(part.get("sha256", "")), str(part.get("origin", ""))) for name, part in data.items()]
    return [Table("Data sets", ("used for", "SHA-256 of what was used", "origin"), rows, prose=True)] if rows else []


def seconds_text(seconds: float) -> str:
    """Return a time as people say it.

    Example:
        >>> seconds_text(0.42), seconds_text(83), seconds_text(7260)
        ('0.4 s', '1 min 23 s', '2 h 1 min')
    """
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _date(text: str) -> str:
    return f"{text[:16].replace('T', ' ')} UTC" if text else ""


def _durations(starts: list[Json]) -> str:
    times: dict[str, float] = {}
    for phase in (phase for start in starts for phase in start.get("phases") or []):
        times[phase["name"]] = times.get(phase["name"], 0.0) + phase["seconds"]
    each = ", ".join(f"{name} {seconds_text(seconds)}" for name, seconds in times.items())
    return f"{seconds_text(sum(times.values()))}: {each}" if times else ""


def _devices(start: Json) -> str:
    if "devices" not in start:
        return ""
    processes = start.get("processes", 1)
    precision = start.get("precision", "32-true")
    parts = [f"{start['devices']} ({start.get('accelerator', '')})"]
    parts += [f"{processes} processes"] if processes > 1 else []
    parts += [f"trainer precision {precision}"] if precision != "32-true" else []
    return ", ".join(parts)

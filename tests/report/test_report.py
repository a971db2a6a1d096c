"""The report: from whatever parts a run's folder holds to one safe, self-contained page."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlprune.comparison import Difference
from mlprune.errors import UserError
from mlprune.metrics import Figure, Measure
from mlprune.report import page, read_run, render, write_report
from mlprune.report.__main__ import main
from mlprune.report.dots import dot_chart
from mlprune.report.figures import dots_of
from mlprune.report.page import MAX_BYTES

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """Collects tags, text and what is left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.headings: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data.strip())
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


SECTIONS = ("Results", "What was pruned", "Features", "Predictions that changed", "Generated answers")
SECTIONS += ("Settings", "How to repeat it")


def results(stage: str, french: float) -> dict:
    return {
        "schema_version": 1,
        "model": "tiny",
        "stage": stage,
        "sparsity": 0.3 if stage == "pruned" else 0.0,
        "seed": 0,
        "config_hash": "abc",
        "versions": {"torch": "2"},
        "tasks": {
            "nli": {
                "en": {"accuracy": 0.5, "n": 20, "ci95": [0.3, 0.7]},
                "fr": {"accuracy": french, "n": 20, "ci95": [0.2, 0.6]},
            }
        },
        "average": {"nli": {"non_en": {"accuracy": french, "ci95": [0.2, 0.6]}}},
        "rankc": {"nli": {"en-fr": 0.8}},
        "translation": {"fr-en": {"bleu": 20.0, "chrf": 40.0, "n": 5}},
        "perplexity": {"fr": {"bits_per_char": 1.5, "n": 5}},
    }


COMPARISON = {
    "headline": "Outside English, pruning changed nli accuracy: too few to tell.",
    "tasks": {"nli": {"fr": {"dense": 0.4, "pruned": 0.5, "delta": 0.1, "delta_ci95": [-0.1, 0.3], "p": 0.3,
                             "p_holm": 0.6, "n": 20}}},
    "average": {"nli": {"non_en": {"delta": 0.1, "delta_ci95": [-0.1, 0.3], "n": 20}}},
    "translation": {"fr-en": {"dense": 20.0, "pruned": 18.0, "delta": -2.0, "p": 0.2, "n": 5}},
}  # fmt: skip
NASTY = '<script>alert(1)</script> & "quotes" </textarea>'
OVERLAP = {
    "percent": 40.0,
    "groups": ["fr", "fr-en</script>"],
    "layers": ["embedding", "block 0"],
    "overlap": [[[0.0, 0.25], [0.5, 0.0]], [[0.0, 0.125], [0.375, 0.0]]],
    "only_translation": [[1], [2, 3]],
    "curves": {"fr and fr-en": [0.4, 0.6]},
}


def write(folder: Path, parts: dict) -> Path:
    for name, content in parts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def whole(folder: Path) -> Path:
    wrong = {"id": "0", "label": "yes", "prediction": "no", "scores": [0, 1], "text": NASTY}
    right = wrong | {"prediction": "yes"}
    translation = {"id": "3", "source": NASTY, "reference": "b", "output": "c", "target_lang": "en"}
    layers = "block,layer,sparsity,threshold,kept_importance,seconds,output_error.mt\n"
    layers += "0,model.layers.0.q,0.3,0.01,0.95,0.1,0.2\n1,model.layers.1.q,0.3,0.01,0.9,0.1,\n"
    return write(folder, {
        "config.yaml": "model: {name: tiny}\npruning: {propagate: pruned}\n",
        "results.dense.json": results("dense", 0.4),
        "results.json": results("pruned", 0.5),
        "comparison.json": COMPARISON,
        "predictions.dense/nli.fr.jsonl": json.dumps(wrong) + "\n" + json.dumps(right | {"id": "1"}) + "\n",
        "predictions/nli.fr.jsonl": json.dumps(right) + "\n" + json.dumps(wrong | {"id": "1"}) + "\n",
        "predictions.dense/translation.fr.jsonl": json.dumps(translation) + "\n",
        "predictions/translation.fr.jsonl": json.dumps(translation | {"output": "d"}) + "\n",
        "pruned/mlprune.json": {"importance": "Wanda()", "sparsity": 0.3, "layers": {"model.layers.0.q": 0.3}},
        "layers.csv": layers,
        "overlap.json": OVERLAP,
    })  # fmt: skip


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render([read_run(whole(tmp_path_factory.mktemp("whole")))])


def test_a_whole_run(whole_page: str) -> None:
    text = whole_page
    page = Page(text)
    assert page.open == []
    assert page.headings == list(SECTIONS)
    assert f"In full: {COMPARISON['headline']}" in page.text
    assert "+10.0" in page.text
    assert "-10.0 to +30.0" in page.text
    assert "0.600" in page.text  # p after Holm
    assert "For better" in page.text
    assert "For worse" in page.text
    assert len(text.encode()) < MAX_BYTES


def test_the_first_screen_answers(tmp_path: Path) -> None:
    whole(tmp_path)
    names = ("fr", "sw", "average", "average_all")
    changes = ((-0.3, -0.4, -0.2, 0.001), (0.0, -0.1, 0.1, 1.0), (-0.15, -0.2, -0.1, 0.001), (-0.1, -0.2, -0.05, 0.001))
    rows = [
        Difference("pruned", "dense", task, lang, Measure("accuracy", unit="%", scale=100, digits=1), 0.5, 0.5 + delta,
                   delta, low, high, p_holm=p, n=40)
        for task in ("nli", "other") for lang, (delta, low, high, p) in zip(names, changes, strict=True)
    ]  # fmt: skip
    rows[6] = replace(rows[6], low=-0.4, p_holm=0.06, high=0.1)
    rows[4] = replace(rows[4], p_holm=0.2)
    comparison = {"systems": ["dense", "pruned"], "headline": "So.", "differences": [row.to_json() for row in rows]}
    run = read_run(write(tmp_path, {"comparison.json": comparison}))
    text = render(
        [replace(run, results={name: own | {"tasks": {"nli": {}, "other": {}}} for name, own in run.results.items()})]
    )
    page = Page(text[: text.index("<section>")] + "</main></body></html>")
    first = " ".join(page.text)
    assert "No: it got worse on nli, and there are too few examples to tell on other." in first
    assert "50.0% before, 35.0% after, outside English: -15.0 points (95% CI -20.0 to -10.0, n = 40)." in first
    assert "Worse in French. No clear change in Swahili." in first
    assert "No clear change in any of 2 languages." in first  # French is clear alone, but not among several
    assert "Share of questions whose right answer" in text  # what accuracy is


@pytest.mark.parametrize("better", [True, False])
def test_rows_are_sorted_by_the_change_and_averages_come_last(better: bool) -> None:
    measure = Measure("m", higher_is_better=better)
    deltas = {"en": 0.0, "fr": 0.2, "sw": -0.1, "average": 0.05}
    systems = {
        name: [Figure(name, "t", lang, measure, 0.5 + share * delta, n=9) for lang, delta in deltas.items()]
        for name, share in (("dense", 0), ("pruned", 1))
    }
    changes = [Difference("pruned", "dense", "t", lang, measure, 0.5, 0.5 + d, d, d, d) for lang, d in deltas.items()]
    dots = dots_of(systems, changes, {"fr": 0.25})
    assert dots.rows == [*(["French", "English", "Swahili"][:: 1 if better else -1]), "average"]
    assert dots.chance == {"French": 0.25}
    assert dots.sure == {"French", "Swahili", "average"}
    assert dots_of({"dense": systems["pruned"]}).rows == dots.rows


@pytest.mark.parametrize("num", range(1, 10))
def test_pictures_of_many_systems_show_all_of_them(num: int) -> None:
    measure = Measure("m")
    langs = ["en", "fr", "zh", "average"]
    systems = {f"run-{i}": [Figure("", "t", lang, measure, 0.1 * i, n=9) for lang in langs] for i in range(num)}
    svg = dot_chart(dots_of(systems), "Dots.")
    assert all(f">run-{i}</text>" in svg for i in range(num)) == (num > 1)
    assert svg.count("<use ") + svg.count("<path") > num * len(langs)
    height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1])
    assert height > 72 * num * len(langs) * 0.13


def test_tables_can_be_taken_away(whole_page: str) -> None:
    text = whole_page
    taken = [json.loads(part) for part in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    assert len(taken) == len(re.findall('<table>|<table class="prose">', text))
    assert text.count("<button") == 3 * len(taken)
    (own,) = [each for each in taken if "nli: accuracy" in each["md"]["text"] and "difference" in each["md"]["text"]]
    assert own["csv"]["text"].startswith("language,dense,pruned,difference")
    assert own["csv"]["file"] == "nli-accuracy.csv"
    assert "language & dense & pruned" in own["tex"]["text"]
    assert "& n" in own["tex"]["text"]


def test_what_people_wrote_is_never_markup(whole_page: str) -> None:
    text = whole_page
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert set(re.findall(r"</?script.*?>", text)) == {
        *("<script>", "</script>", '<script type="application/json">', '<script type="application/json" id="overlap">')
    }
    data = re.search(r'id="overlap">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(data)["groups"] == OVERLAP["groups"]


def test_heatmaps_of_hidden_states_and_of_what_linear_layers_read(tmp_path: Path) -> None:
    layers = ["h.0.q", "h.0.up", "h.1.q", "h.1.up"]
    linear = OVERLAP | {
        "layers": layers,
        "overlap": [[[0.0, share], [share, 0.0]] for share in (0.1, 0.2, 0.3, 0.4)],
        "only_translation": [[], [7], [], [9, 8]],
        "curves": {"fr and fr-en": [0.1, 0.2, 0.3, 0.4]},
        "layers_by_kind": {"q, k": ["h.0.q", "h.1.q"], "up": ["h.0.up", "h.1.up"]},
    }
    parts = {"overlap.json": OVERLAP | {"layers": ["0", "1"]}, "overlap.linear.json": linear}
    text = render([read_run(write(tmp_path, parts))])
    page = Page(text)
    data = json.loads(re.search(r'id="overlap">(.*?)</script>', text, re.DOTALL)[1])
    hidden, q, up = data["parts"]
    assert [part["name"] for part in data["parts"]] == ["hidden states", "input of q, k", "input of up"]
    assert (hidden["layers"], q["layers"]) == (["embedding", "block 0"], ["block 0", "block 1"])
    assert up["overlap"] == [[[0.0, 20.0], [20.0, 0.0]], [[0.0, 40.0], [40.0, 0.0]]]
    assert up["only"] == ["7", "9, 8"]
    assert "Large only under translation: input of up" in page.text
    assert "Large only under translation: input of q, k" not in page.text
    assert any("3 over 2 layers are large under translation" in part for part in page.text)


def test_a_sweep_is_shown_by_sparsity(tmp_path: Path) -> None:
    lines = ["sparsity,task,language,metric,dense,pruned,delta,low,high,p,n"]
    for sparsity, pruned, low, high in ((0.2, 0.5, -0.1, 0.1), (0.5, 0.3, -0.3, -0.1)):
        lines.append(f"{sparsity},nli,non_en,accuracy,0.5,{pruned},{pruned - 0.5},{low},{high},,40")
        lines.append(f"{sparsity},nli,fr,accuracy,0.9,0.9,0,-1,1,1,20")
        lines += [f"{sparsity},translation,{pair}-en,bleu,{d},{d},0,,,,5" for pair, d in (("fr", 10), ("es", 20))]
    parts = {"sweep.csv": "\n".join(lines) + "\n", "results.dense.json": results("dense", 0.4)}
    page = Page(render([read_run(write(tmp_path, parts))]))
    assert page.headings[:3] == ["Sweep over sparsities", "The dense model", "Settings"]
    assert "30.0*" in page.text
    assert "50.0*" not in page.text
    assert "15.0" in page.text  # BLEU, mean of two directions
    assert page.text.count("nli: accuracy, %, French") == 1  # the table of languages
    assert {"French", "average"} <= set(page.text[page.text.index("nli: accuracy, %") :])  # its curves
    assert any(
        "nli accuracy first changes by -20.0 points at 50% sparsity (95% intervals, uncorrected, of " in part
        for part in page.text
    )


def test_how_the_run_was_made(tmp_path: Path) -> None:
    phases = [{"name": "pruning", "seconds": 30.0}]
    start = {"date": "2026-05-01T10:00:00+00:00", "command": "mlprune fit", "machine": "Linux, 2 cores", "devices": 4}
    start |= {"processes": 4, "accelerator": "CUDA", "dtype": "bfloat16", "threads": 8, "precision": "bf16-mixed"}
    training = {"optimizer": "AdamW", "learning_rate": 1e-5, "steps": 12}
    data = {"task nli, examples fr": {"sha256": "abc123", "origin": "nli.fr.jsonl"}}
    starts = [start | {"phases": phases}, start | {"phases": phases, "data": data, "training": training}]
    text = Page(render([read_run(write(whole(tmp_path), {"run.json": {"starts": starts}}))])).text
    cells = {
        *("2026-05-01 10:00 UTC, resumed 1 time", "mlprune fit", "1 min 0 s: pruning 1 min 0 s", "Linux, 2 cores"),
        *("4 (CUDA), 4 processes, trainer precision bf16-mixed", "bfloat16", "8", "1e-05", "AdamW", "12"),
        *("abc123", "nli.fr.jsonl"),
    }
    assert cells <= set(text)


@pytest.mark.parametrize(("levels", "drawn"), [((0.3, 0.301), False), ((0.3, 0.4), True)])
def test_uniform_sparsity_is_a_number_and_no_chart(tmp_path: Path, levels: tuple[float, float], drawn: bool) -> None:
    layers = "block,layer,sparsity,threshold,kept_importance\n"
    layers += "".join(f"{k},h.{k}.q,{level},0.1,0.9\n" for k, level in enumerate(levels))
    text = " ".join(Page(render([read_run(write(tmp_path, {"layers.csv": layers}))])).text)
    assert ("Sparsity of each layer" in text) == drawn
    assert ("30.0 to 30.1% of the weights of each of the 2 layers" in text) != drawn


def test_settings_name_no_pruning_that_did_not_happen(tmp_path: Path) -> None:
    pruning = "pruning: {propagate: layer, importance: {class_path: mlprune.pruning.RIA}}\n"
    training = "trainer: {max_epochs: 3}\nmodel: {name: tiny, lora: {r: 4}}\n"
    tested = write(tmp_path / "test", {"config.yaml": pruning, "results.json": results("dense", 0.4)})
    assert "RIA" not in render([read_run(tested)])
    fitted = write(whole(tmp_path / "fit"), {"config.yaml": pruning + training})
    text = render([read_run(fitted)])
    assert "Wanda()" in text  # what mlprune.json says
    assert "3 epochs, AdamW, adapters (r=4)" in text


def test_a_sweep_shows_the_sparsities_that_were_run_and_no_other(tmp_path: Path) -> None:
    pattern = "{class_path: mlprune.pruning.Unstructured, init_args: {sparsity: 0.33, scope: layer}}"
    lines = ["sparsity,task,language,metric,dense,pruned,delta,low,high,p,n"]
    lines += [f"{level},nli,non_en,accuracy,0.5,0.4,-0.1,-0.2,0.1,,40" for level in (0.2, 0.5)]
    parts = {"sweep.csv": "\n".join(lines) + "\n", "config.yaml": f"pruning: {{pattern: {pattern}}}\n"}
    text = Page(render([read_run(write(tmp_path, parts | {"results.dense.json": results("dense", 0.4)}))])).text
    assert {"Unstructured(scope='layer')", "20%, 50%"} <= set(text)
    assert not any("0.33" in part for part in text)


def test_without_english_nothing_is_said_of_it(tmp_path: Path) -> None:
    french = results("dense", 0.4)
    del french["tasks"]["nli"]["en"], french["rankc"]
    text = " ".join(Page(render([read_run(write(tmp_path, {"results.json": french}))])).text)
    assert "English" not in text
    assert "nli accuracy 40.0% on average over languages" in text


@pytest.mark.parametrize(("share", "shown"), [(0.966, True), (1.0, False)])
def test_the_share_that_was_scored(tmp_path: Path, share: float, shown: bool) -> None:
    recipe = {"sparsity": 0.3, "scored_share": share, "layers": {"h.0.q": 0.3}}
    text = Page(render([read_run(write(tmp_path, {"pruned/mlprune.json": recipe}))])).text
    assert ("96.6%" in text) == shown
    assert ("share of the blocks' weights scored" in text) == shown


def test_a_trained_model_is_called_so(tmp_path: Path) -> None:
    trained = results("pruned", 0.5) | {"system": "trained"}
    comparison = COMPARISON | {"systems": ["dense", "trained"]}
    run = write(whole(tmp_path), {"results.json": trained, "comparison.json": comparison})
    text = Page(render([read_run(run)])).text
    assert "Dense against trained" in text
    tables = text[text.index("Results") :]
    assert "trained" in tables[tables.index("nli: accuracy, %") :][:12]
    assert not any("without training" in part for part in text)
    assert any("; dense:" in part for part in text)


def test_of_many_tasks_some_have_a_chart_and_all_stand_in_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_CHARTS", 3)
    languages = {"fr": {"accuracy": 0.5, "n": 20, "ci95": [0.3, 0.7]}}
    tasks = {f"task {number}": languages for number in range(8)}
    write(tmp_path, {"results.dense.json": results("dense", 0.4) | {"tasks": tasks, "average": {}, "rankc": {},
                                                                   "translation": {}, "perplexity": {}}})  # fmt: skip
    text = render([read_run(tmp_path)])
    assert text.count("by language: a dot") == 3
    assert "5 more tasks and measures have no chart here" in text
    assert all(name in text for name in tasks)
    monkeypatch.undo()
    text = render([read_run(tmp_path)])
    assert text.count("by language: a dot") == 8
    assert "have no chart" not in text


def test_tables_have_the_order_of_the_rows(tmp_path: Path) -> None:
    row = COMPARISON["tasks"]["nli"]["fr"]
    names = ("English", "French", "Arabic")
    comparison = COMPARISON | {"tasks": {"nli": {"en": row, "fr": row, "ar": row}}}
    text = Page(render([read_run(write(whole(tmp_path), {"comparison.json": comparison}))])).text
    results = text[text.index("Results") :]
    assert [cell for cell in results if cell in ("Arabic", "English", "French")][:3] == list(names)


def test_nothing_is_asked_of_the_network(whole_page: str) -> None:
    text = whole_page
    linked = ("src", "href", "xlink:href", "action", "srcset", "poster")
    addresses = {value for _, attrs in Page(text).tags for name, value in attrs.items() if name in linked}
    addresses |= set(re.findall(r"""url\(["']?([^"')\s>]+)""", text))
    assert all(address.startswith(("#", "data:")) for address in addresses), addresses
    assert not re.search(r"@import|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", text)


def test_it_can_be_read_without_eyes_and_in_the_dark(whole_page: str) -> None:
    text = whole_page
    page = Page(text)
    images = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(images) >= 6
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 20 for attrs in images)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    labelled = {attrs["for"] for tag, attrs in page.tags if tag == "label"}
    assert {attrs["id"] for tag, attrs in page.tags if tag in ("input", "select")} <= labelled
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "#010101" not in text  # every placeholder color was replaced
    assert "currentColor" in text


@pytest.mark.parametrize(("scheme", "start"), [("light", ":root { color-scheme"), ("dark", "@media (prefers")])
def test_contrast_of_text(whole_page: str, scheme: str, start: str) -> None:
    part = whole_page[whole_page.index(start) :]
    colors = dict(re.findall(r"--(ink|soft|paper|panel|accent|good|bad): (#[0-9a-f]{3,6})", part[:900]))
    for ink in ("ink", "soft", "accent"):
        for paper in ("paper", "panel"):
            assert contrast(colors[ink], colors[paper]) >= 4.5, (scheme, ink, paper)


def contrast(first: str, second: str) -> float:
    def luminance(color: str) -> float:
        digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


PARTS = {
    "config.yaml": (["Settings"], "model: {name: tiny}\n"),
    "results.json": (["Results", "Settings"], results("dense", 0.4)),
    "pruned/mlprune.json": (["What was pruned", "Settings"], {"sparsity": 0.3, "layers": {"h.0.q": 0.3, "h.1.q": 0.3}}),
    "overlap.json": (["Features"], OVERLAP),
}


@pytest.mark.parametrize("name", PARTS)
def test_every_part_works_alone(tmp_path: Path, name: str) -> None:
    expected, content = PARTS[name]
    page = Page(render([read_run(write(tmp_path, {name: content}))]))
    assert page.open == []
    assert page.headings == [*expected, "How to repeat it"]


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    first, second = whole(tmp_path / "a"), whole(tmp_path / "b")
    changed = results("pruned", 0.7) | {"seed": 1}
    write(second, {"results.json": changed})
    page = Page(render([read_run(first), read_run(second)]))
    name = f"{tmp_path.name}"
    assert page.open == []
    assert "2 runs side by side" in page.text
    assert f"{name}/a pruned" in page.text
    assert f"{name}/b pruned" in page.text
    assert page.text.count("dense") >= 1
    assert f"{name}/b dense" not in page.text  # the same dense model is shown once
    assert "70.0 (20.0 to 60.0)" in page.text
    assert "(differs)" in page.text
    assert page.text.count(f"{name}/a pruned against dense") == 1


def test_systems_of_several_runs_are_compared_with_dense_once_and_with_each_other(tmp_path: Path) -> None:
    answers = {"dense": 10, "a": 30, "b": 50}  # of 60 right
    for run in "ab":
        files = {"results.dense.json": results("dense", 0.2), "results.json": results("pruned", 0.5)}
        for name, folder in (("dense", "predictions.dense"), (run, "predictions")):
            given = ["yes"] * answers[name] + ["no"] * (60 - answers[name])
            records = [{"id": str(i), "label": "yes", "prediction": answer} for i, answer in enumerate(given)]
            files[f"{folder}/nli.fr.jsonl"] = "".join(json.dumps(record) + "\n" for record in records)
        write(tmp_path / run, files)
    page = Page(render([read_run(tmp_path / run) for run in "ab"]))
    names = [f"{tmp_path.name}/{run} pruned" for run in "ab"]
    text = " ".join(filter(None, page.text))
    assert f"{names[1]} against dense Yes: it got better on nli." in text
    assert "16.7% before, 83.3% after, on average over languages: +66.7 points" in text
    table = text[text.index("Results") :]
    assert f"language dense {names[0]} {names[1]} n French 16.7 +33.3 (" in table
    matrix = table[table.index("average difference, row minus column") :]
    assert f"system dense {names[0]} {names[1]} dense -33.3 (" in matrix
    assert "; p <0.001)" in matrix


def test_after_recovery_training_three_systems_are_compared_in_turn(tmp_path: Path) -> None:
    kinds = {".dense": ("dense", 40), ".pruned": ("pruned", 10), "": ("trained", 50)}
    for kind, (system, right) in kinds.items():
        own = results("dense" if system == "dense" else "pruned", right / 60) | {"system": system}
        given = ["yes"] * right + ["no"] * (60 - right)
        records = [{"id": str(i), "label": "yes", "prediction": answer} for i, answer in enumerate(given)]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write(tmp_path, {f"results{kind}.json": own, f"predictions{kind}/nli.fr.jsonl": lines})
    run = read_run(tmp_path)
    assert list(run.results) == list(run.predictions) == ["dense", "pruned", "trained"]
    text = " ".join(filter(None, Page(render([run])).text))
    assert "pruned against dense No: it got worse on nli." in text
    assert "trained against pruned Yes: it got better on nli." in text
    assert "Dense against trained" in text
    assert "correct: yes ; dense: no ; trained: yes" in text


def test_runs_without_predictions_are_shown_but_not_compared(tmp_path: Path) -> None:
    for run in "ab":
        write(tmp_path / run, {"results.json": results("pruned", 0.5)})
    text = " ".join(Page(render([read_run(tmp_path / run) for run in "ab"])).text)
    assert "Differences between the runs are not shown: fewer than two of the runs have their predictions" in text
    assert f"{tmp_path.name}/b pruned" in text


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    whole(tmp_path)
    code = "import sys; from pathlib import Path; from mlprune.report import read_run, render; "
    code += "sys.stdout.buffer.write(render([read_run(Path(sys.argv[1]))]).encode())"
    pages = [
        subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=True).stdout for _ in "ab"
    ]
    assert pages[0] == pages[1]
    assert pages[0]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole(tmp_path / "run")
    assert main([str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").is_file()
    target = tmp_path / "both.html"
    assert main([str(tmp_path / "run"), str(tmp_path / "run"), "--output", str(target)]) == 0
    assert target.is_file()
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 2
    assert "is not a run's folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [("results.json", "{"), ("results.json", "[]"), ("config.yaml", "a: ["), ("predictions/nli.fr.jsonl", "no json")],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    write(whole(tmp_path), {name: content})
    with pytest.raises(UserError, match=re.escape(name.rsplit("/", 1)[-1])):
        read_run(tmp_path)


def test_it_is_complete_or_absent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: File exists"):
        write_report([read_run(whole(tmp_path))], tmp_path / "config.yaml" / "report.html")

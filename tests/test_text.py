"""Text of others on each way out: to the terminal, the log, the report, the comparison and the model card."""

import io
import json
import logging
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import write_config

from mlprune.callbacks.console import print_line
from mlprune.comparison import Difference
from mlprune.errors import first_line, one_line, reason_of
from mlprune.log import log
from mlprune.metrics import Measure
from mlprune.models.card import Facts, write_card
from mlprune.present import COMPARISON_FILES, Table, to_console, to_html, to_latex, to_markdown
from mlprune.report import read_run, render
from mlprune.text import plot_text, visible

HOSTILE = {
    "ESC": "\x1b[31m",
    "BEL": "\x07",
    "CR": "\r",
    "BS": "\x08",
    "NUL": "\x00",
    "DEL": "\x7f",
    "NEL": "\x85",
    "CSI": "\x9b31m",
    "RLO": "\u202e",
    "RLI": "\u2067",
    "RLM": "\u200f",
    "LS": "\u2028",
    "ZWSP": "\u200b",
    "BOM": "\ufeff",
    "surrogate": "\udc9b",
}
WAYS = {
    "error line": one_line,
    "reason": lambda text: reason_of(ValueError(text)),
    "first line": lambda text: first_line(ValueError(text)),
    "picture": plot_text,
    "Markdown": lambda text: to_markdown(Table(text, (text,), [(text,)], (text,))).replace("\n", ""),
    "LaTeX": lambda text: to_latex(Table(text, (text,), [(text,)], (text,))).replace("\n", ""),
    "HTML": lambda text: to_html(Table(text, (text,), [(text,)], (text,))).replace("\n", ""),
    "comparison.md": lambda text: COMPARISON_FILES["comparison.md"](comparison(text)).replace("\n", ""),
    "log": lambda text: logged("%s", text),
    "log's own text": lambda text: logged(text),
    "console table": lambda text: printed(Table(text, ("name",), [(text,)])),
}


def comparison(text: str) -> dict:
    row = Difference(text, text, text, "fr", Measure("f1", text), 0.5, 0.5, 0.0)
    return {"headline": text, "systems": [text, text], "differences": [row.to_json()]}


def logged(*args: str) -> str:
    record = log.makeRecord("mlprune", logging.INFO, "", 0, args[0], args[1:], None)
    log.filter(record)
    return record.getMessage()


def printed(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=True, color_system=None).print(to_console(table))
    return out.getvalue().replace("\n", "")


@pytest.mark.parametrize("character", HOSTILE)
@pytest.mark.parametrize("way", WAYS)
def test_control_characters_are_written_out(way: str, character: str) -> None:
    shown = WAYS[way](f"a{HOSTILE[character]}b")
    assert not set(HOSTILE[character]) & set(shown) - set("[31m")
    assert "a" in shown
    assert "b" in shown or way == "first line"


def test_nothing_else_is() -> None:
    for text in ("Ünï", "می‌روم", "क्‍ष", "中文 ไทย", "a b", "%s %d {x}"):
        assert visible(text) == text
        assert logged("%s", text) == text


@pytest.mark.parametrize("character", HOSTILE)
def test_a_report_of_hostile_files(tmp_path: Path, character: str) -> None:
    bad = f"x{HOSTILE[character]}<script>alert(1)</script>'\"y"
    record = {"id": bad, "label": bad, "prediction": "no", "text": bad}
    answer = {"id": bad, "source": bad, "reference": bad, "output": bad}
    layers = f"block,layer,sparsity,threshold,kept_importance\n0,{bad.split('<')[0].strip()}.h.0.q,0.3,0.1,0.9\n"
    files = {
        "results.dense.json": json.dumps({"model": bad, "stage": "dense", "versions": {bad: bad}, "seed": bad}),
        "results.json": json.dumps({"model": bad, "stage": "pruned", "config_hash": bad, "warnings": [bad]}),
        "comparison.json": json.dumps(comparison(bad)),
        "predictions.dense/nli.fr.jsonl": json.dumps(record),
        "predictions/nli.fr.jsonl": json.dumps(record | {"prediction": bad}),
        "predictions.dense/mt.fr.jsonl": json.dumps(answer),
        "predictions/mt.fr.jsonl": json.dumps(answer),
        "mlprune.json": json.dumps({"importance": bad, "sparsity": 0.3, "layers": {bad: 0.3}}),
    }
    if character not in ("CR", "NEL", "NUL", "LS", "surrogate"):
        files["layers.csv"] = layers
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    page = render([read_run(tmp_path)])
    page.encode()
    assert not set(HOSTILE[character]) & set(page) - set("[31m")
    assert "<script>alert" not in page


@pytest.mark.parametrize("character", [name for name in HOSTILE if name != "surrogate"])
def test_a_card_of_a_hostile_base_model(tmp_path: Path, character: str) -> None:
    bad = f"x{HOSTILE[character]}y"
    card = {"base_model": bad, "license": bad, "notice": f"{bad}\n\n{bad}", "hub_id": bad}
    recipe = {"importance": bad, "sparsity": 0.3, "calibration": {bad: {"prompts": 1, "tokens": 2, "sha256": "a"}}}
    write_card(tmp_path, recipe, Facts(card, datasets=[bad], calibration={bad: bad}))
    for name in ("README.md", "NOTICE"):
        assert not set(HOSTILE[character]) & set((tmp_path / name).read_bytes().decode()) - set("[31m")


def test_lines_on_the_console(capsys: pytest.CaptureFixture) -> None:
    print_line("m[/red][bold]\x1b]0;title\x07", wrap=False)
    assert capsys.readouterr().out == "m[/red][bold]\\x1b]0;title\\x07\n"


def test_an_error_of_the_command_line(mlprune, tmp_path: Path, tiny_folder: Path) -> None:
    config = write_config(tmp_path, tiny_folder)
    status, out, err = mlprune("test", "--config", config, "--model.name", "nobody/\x1b[31m\u202e")
    assert status == 2
    assert not set("\x1b\u202e") & set(out + err)
    assert err.count("\n") == 1

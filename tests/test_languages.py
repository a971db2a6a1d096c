"""Languages by any tag: names, scripts and the codes of FLORES, and names of the user's own."""

from pathlib import Path

import pytest
from tiny import tiny_tokenizer

from mlprune.data.corpora import Bundled, FloresFolder, LocalFiles
from mlprune.data.demonstrations import TranslationDemonstrations
from mlprune.datamodule import PruningDataModule
from mlprune.errors import UserError
from mlprune.evaluation.tasks import CandidateTask, PerplexityTask, TranslationTask
from mlprune.languages import LISTED, Language, is_language, language, languages_of
from mlprune.present.rows import language_labels


@pytest.mark.parametrize(
    ("code", "name", "flores", "primary"),
    [
        ("fr", "French", "fra_Latn", "fr"),
        ("fra", "French", "fra_Latn", "fr"),
        ("fra_Latn", "French", "fra_Latn", "fr"),
        ("pt-BR", "Portuguese (Brazil)", "por_Latn", "pt"),
        ("zh", "Chinese", "zho_Hans", "zh"),
        ("zh-Hant", "Chinese (Traditional)", "zho_Hant", "zh"),
        ("zho_Hans", "Chinese", "zho_Hans", "zh"),
        ("cmn_Hans", "Chinese", "zho_Hans", "zh"),
        ("sr", "Serbian", "srp_Cyrl", "sr"),
        ("sr-Latn", "Serbian (Latin)", "srp_Latn", "sr"),
        ("yue", "Cantonese", "yue_Hant", "yue"),
        ("wo", "Wolof", "wol_Latn", "wo"),
        ("wol_Latn", "Wolof", "wol_Latn", "wo"),
        ("swh_Latn", "Swahili", "swh_Latn", "sw"),
        ("arb_Arab", "Arabic", "arb_Arab", "ar"),
        ("no", "Norwegian", "nob_Latn", "no"),
        ("nb", "Norwegian Bokmål", "nob_Latn", "nb"),
        ("prs", "Dari", "prs_Arab", "prs"),
        ("bn_Latn", "Bengali (Latin)", "ben_Latn", "bn"),
        ("x-dialect", "x-dialect", "", "x-dialect"),
        ("qaa", "qaa", "", "qaa"),
    ],
)
def test_tags(code: str, name: str, flores: str, primary: str) -> None:
    assert language(code) == Language(code, name, flores, primary)


@pytest.mark.parametrize("code", LISTED)
def test_flores_codes_map_both_ways(code: str) -> None:
    entry = language(code)
    for flores in entry.flores_codes:
        back = language(flores)
        assert (back.flores, back.script) == (entry.flores, entry.script)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("french", "give an ISO 639-1 code such as 'fr'"),
        ("Klingon", "give a code such as 'tlh'"),
        ("xx", "give a BCP-47 tag"),
        ("", "give a BCP-47 tag"),
        ("../fr", "give a BCP-47 tag"),
        ("fr\n", "is not known"),
        ("no such", "is not known"),
        ("pt-br", "did you mean 'pt-BR'?"),
        ("EN", "did you mean 'en'?"),
        ("zh_hant", "did you mean 'zh-Hant'?"),
    ],
)
def test_no_language(code: str, hint: str) -> None:
    assert not is_language(code)
    with pytest.raises(UserError, match="is not known") as error:
        language(code)
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("text", "codes", "label"),
    [
        ("en-sw", ["en", "sw"], "English and Swahili"),
        ("en-zh-Hant", ["en", "zh-Hant"], "English and Chinese (Traditional)"),
        ("zh-Hant-fr", ["zh-Hant", "fr"], "Chinese (Traditional) and French"),
        ("pt-BR", ["pt-BR"], "Portuguese (Brazil)"),
        ("wol_Latn-en", ["wol_Latn", "en"], "Wolof and English"),
        ("klingon", ["klingon"], "klingon"),
    ],
)
def test_pairs_of_tags_with_hyphens(text: str, codes: list[str], label: str) -> None:
    assert languages_of(text) == codes
    assert language_labels([text]) == [label]


@pytest.mark.parametrize("name", ["zho_Hans.dev", "cmn_Hans.dev"])
def test_folders_of_flores_and_flores_plus(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("你好。\n", encoding="utf-8")
    assert [row["text"] for row in FloresFolder(str(tmp_path)).rows("zh")] == ["你好。"]
    with pytest.raises(UserError, match=r"no file est_Latn\.dev or ekk_Latn\.dev for language 'et'"):
        FloresFolder(str(tmp_path)).check("et")


@pytest.mark.parametrize(("code", "same"), [("fra", "fr"), ("swh_Latn", "sw"), ("zh-Hans", "zh"), ("es-MX", "es")])
def test_bundled_corpora_by_any_code(code: str, same: str) -> None:
    assert Bundled("parallel").rows(code) == Bundled("parallel").rows(same)


def test_bundled_corpora_have_one_script() -> None:
    with pytest.raises(UserError, match=r"has no language 'zh-Hant'; it has en, es, fr, hi, sw, zh$"):
        Bundled("parallel").check("zh-Hant")


@pytest.fixture
def wolof(tmp_path: Path) -> LocalFiles:
    """A parallel corpus of a language that the package has no text of."""
    for lang, words in {"wo": "Nanga def", "en": "How are you"}.items():
        lines = "".join(f"{words} {number}\n" for number in range(40))
        (tmp_path / f"talk.{lang}.tsv").write_text(f"text\n{lines}", encoding="utf-8")
    return LocalFiles(f"{tmp_path}/talk.{{lang}}.tsv")


def test_names_of_the_users_own(wolof: LocalFiles) -> None:
    demonstrations = TranslationDemonstrations("wo", corpus=wolof, shots=1, num_prompts=1)
    task = TranslationTask(["wo"], corpus=wolof, fewshot=wolof, shots=1, limit=1)
    data = PruningDataModule({"mt": demonstrations}, [task], language_names={"wo": "Wolof Dakar"})
    data.choose_prompts(tiny_tokenizer())
    assert data.chosen["mt"][0].text.startswith("Wolof Dakar: Nanga def")
    prompt = task.prompts(tiny_tokenizer(), "wo", ["Jërëjëf"])[0]
    assert prompt.startswith("Wolof Dakar: ")
    assert "\nEnglish: " in prompt
    assert prompt.endswith("Wolof Dakar: Jërëjëf\nEnglish:")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            {"wol": "Wolof"},
            "'wol' is a language of no task and no demonstrations; they have en, wo; did you mean 'wo'?",
        ),
        ({"wo": ""}, "'' is not allowed as the name of 'wo'"),
        ({"wo": "two\nlines"}, "is not allowed as the name of 'wo'; give one line"),
    ],
)
def test_names_that_are_refused(names: dict[str, str], told: str, wolof: LocalFiles) -> None:
    demonstrations = TranslationDemonstrations("wo", corpus=wolof)
    with pytest.raises(UserError) as error:
        PruningDataModule({"mt": demonstrations}, language_names=names)
    assert told in str(error.value)


def test_a_template_of_ones_own_needs_no_known_language(tmp_path: Path) -> None:
    (tmp_path / "rows.village.jsonl").write_text('{"text": "a", "label": "0"}\n', encoding="utf-8")
    corpus = LocalFiles(f"{tmp_path}/rows.{{lang}}.jsonl")
    words = {"verbalizer": {"0": "no", "1": "yes"}, "label_column": "label"}
    task = CandidateTask("mine", ["village"], corpus, template="{text}? {label}", **words)
    assert len(task.examples("village")) == 1
    with pytest.raises(UserError, match="'village' is not known"):
        CandidateTask("mine", ["village"], corpus, template="xnli")
    with pytest.raises(UserError, match="'village' is not known"):
        PerplexityTask(["village"], corpus=Bundled("parallel"))

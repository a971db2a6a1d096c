"""Similarity of groups: the published code's numbers, by hand, and from what calibration kept."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_batches, tiny_model
from transformers import BloomConfig, BloomForCausalLM

from mlprune.analysis.feature_figures import similarity_curves, similarity_maps
from mlprune.analysis.magnitudes import Magnitudes
from mlprune.analysis.similarity import cosines, energies_by_group, similarity_csv, similarity_table
from mlprune.pruning import Pruner, SparseGPT, Wanda, collect_statistics

REFERENCE = Path(__file__).parent.parent / "references" / "mbs" / "similarity.npz"
LANGUAGES = ("en", "fr", "sw")


def test_the_published_similarity_of_languages() -> None:
    known = dict(np.load(REFERENCE))
    model = BloomForCausalLM(BloomConfig(hidden_size=32, n_head=2, n_layer=2, vocab_size=256)).eval()
    weights = {name: torch.from_numpy(value) for name, value in known.items() if name.startswith("word_embeddings")}
    model.transformer.load_state_dict(weights, strict=False)
    magnitudes = Magnitudes(model, linear_inputs=False)
    for number, segments in enumerate(known["ids"]):
        for ids in torch.from_numpy(segments.astype("int64")).split(64):
            magnitudes.add({"input_ids": ids, "group": f"l{number}"})
    energies = {group: layers["0"] for group, layers in magnitudes.hidden_energies().items()}
    np.testing.assert_allclose(torch.stack(list(energies.values())).numpy(), known["energies"], rtol=1e-5)
    np.testing.assert_allclose(cosines(energies).numpy(), known["cosine"], atol=1e-6)
    assert (cosines(energies).diagonal() <= 1).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "mt5", "mixtral"])
def test_any_layer_by_hand_and_from_kept_statistics(family: str) -> None:
    model = tiny_model(family)
    batches = [batch for i, lang in enumerate(LANGUAGES) for batch in tiny_batches(family, [7, 4], seed=i, group=lang)]
    magnitudes = Magnitudes(model)
    for batch in batches:
        magnitudes.add(batch)
    inputs = magnitudes.input_energies()
    kept = energies_by_group(collect_statistics(model, batches, Pruner(Wanda())))
    assert list(kept) == list(inputs) == list(LANGUAGES)
    shared = [path for path in inputs["en"] if path in kept["en"] and "expert" not in path]
    assert len(shared) > 8
    for path in shared:
        rows = [inputs[lang][path] for lang in LANGUAGES]
        by_hand = [[float(a @ b / (a @ a).sqrt() / (b @ b).sqrt()) for a in rows] for b in rows]
        own = {lang: inputs[lang][path] for lang in LANGUAGES}
        torch.testing.assert_close(cosines(own), torch.tensor(by_hand, dtype=torch.float64), atol=1e-9, rtol=0)
        from_kept = cosines({lang: kept[lang][path] for lang in LANGUAGES})
        torch.testing.assert_close(from_kept, cosines(own), atol=1e-6, rtol=0)
    from_gram = energies_by_group(collect_statistics(model, batches, Pruner(SparseGPT())))
    tables = [similarity_table(found)["cosine"] for found in (kept, from_gram)]
    torch.testing.assert_close(torch.tensor(tables[0]), torch.tensor(tables[1]), atol=1e-5, rtol=0)


def test_what_is_silent_is_like_nothing_and_tables_are_drawn() -> None:
    silent = {"en": torch.tensor([1.0, 2.0]), "fr": torch.zeros(2)}
    assert cosines(silent).tolist() == [[pytest.approx(1), 0], [0, 0]]
    table = similarity_table({group: {"0": own, "1": own.flip(0)} for group, own in silent.items()})
    rows = list(csv.DictReader(io.StringIO(similarity_csv(table))))
    assert rows == [{"layer": layer, "group": "en", "other": "fr", "cosine": "0"} for layer in "01"]
    assert [axes.get_title() for axes in similarity_maps(table, "hidden states").axes[:2]] == [
        "layer 0 (embedding)",
        "layer 1 (after the norm)",
    ]
    (axes,) = similarity_curves({"hidden states": table}).axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0, 0], [0, 0]]

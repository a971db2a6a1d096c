"""Pruning in plain torch, for any transformers model; imports neither Lightning nor data nor evaluation."""

from mlprune.pruning.activity import activation_probability
from mlprune.pruning.admm import ADMM
from mlprune.pruning.allocation import OWL, Allocation, AlphaPruning
from mlprune.pruning.alps import ALPS
from mlprune.pruning.calibration import Calibration, calibrating
from mlprune.pruning.dsnot import DSnoT
from mlprune.pruning.flap import FLAP
from mlprune.pruning.gblm import GBLM
from mlprune.pruning.importance import RIA, ContrastiveWanda, Importance, Magnitude, Random, Wanda
from mlprune.pruning.losses import Loss, NextToken, TranslationLoss
from mlprune.pruning.masks import apply_masks, load_masks, save_masks
from mlprune.pruning.merging import merge_statistics
from mlprune.pruning.moments import joined
from mlprune.pruning.patterns import NofM, Pattern, Unstructured
from mlprune.pruning.prune import DenseWeights, collect_statistics, prune_from_statistics, prune_model, sweep
from mlprune.pruning.pruner import LayerReport, Pruner
from mlprune.pruning.reap import prune_experts, score_experts
from mlprune.pruning.regional import RegionalGradient
from mlprune.pruning.sparsegpt import SparseGPT
from mlprune.pruning.statistics import ENERGY, GRAM, LayerStatistics, Pool, Statistic, load_statistics, save_statistics
from mlprune.pruning.steps import BlockStep, prune_blocks
from mlprune.pruning.streaming import prune_streaming

__all__ = [
    "ADMM",
    "ALPS",
    "ENERGY",
    "FLAP",
    "GBLM",
    "GRAM",
    "OWL",
    "RIA",
    "Allocation",
    "AlphaPruning",
    "BlockStep",
    "Calibration",
    "ContrastiveWanda",
    "DSnoT",
    "DenseWeights",
    "Importance",
    "LayerReport",
    "LayerStatistics",
    "Loss",
    "Magnitude",
    "NextToken",
    "NofM",
    "Pattern",
    "Pool",
    "Pruner",
    "Random",
    "RegionalGradient",
    "SparseGPT",
    "Statistic",
    "TranslationLoss",
    "Unstructured",
    "Wanda",
    "activation_probability",
    "apply_masks",
    "calibrating",
    "collect_statistics",
    "joined",
    "load_masks",
    "load_statistics",
    "merge_statistics",
    "prune_blocks",
    "prune_experts",
    "prune_from_statistics",
    "prune_model",
    "prune_streaming",
    "save_masks",
    "save_statistics",
    "score_experts",
    "sweep",
]

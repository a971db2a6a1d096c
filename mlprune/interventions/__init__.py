"""Interventions: what changes activations while a model is evaluated; its weights stay as they are."""

from mlprune.interventions.ablation import FeatureAblation
from mlprune.interventions.base import Intervention
from mlprune.interventions.language_vectors import language_vectors
from mlprune.interventions.lrp2 import LRP2
from mlprune.interventions.steering import lrp2
from mlprune.interventions.units import UnitAblation

__all__ = ["LRP2", "FeatureAblation", "Intervention", "UnitAblation", "language_vectors", "lrp2"]

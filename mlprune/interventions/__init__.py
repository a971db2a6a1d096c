"""Interventions: what changes activations while a model is evaluated; its weights stay as they are."""

from mlprune.interventions.ablation import FeatureAblation
from mlprune.interventions.base import Intervention

__all__ = ["FeatureAblation", "Intervention"]

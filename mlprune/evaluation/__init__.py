"""Evaluation in plain torch: candidate scoring, generation and tasks; no Lightning."""

from mlprune.evaluation.generation import generate
from mlprune.evaluation.scoring import score_candidate_ids, score_candidates

__all__ = ["generate", "score_candidate_ids", "score_candidates"]

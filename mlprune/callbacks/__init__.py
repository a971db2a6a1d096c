"""Lightning callbacks: pruning, the run's folder, tables on the console."""

from mlprune.callbacks.ablation import FeatureAblation
from mlprune.callbacks.base import RunCallback, Viewer
from mlprune.callbacks.block_influence import BlockInfluence
from mlprune.callbacks.console import ResultsTable
from mlprune.callbacks.evaluated_features import EvaluatedFeatures
from mlprune.callbacks.experts import ExpertPruning
from mlprune.callbacks.features import FeatureAnalysis
from mlprune.callbacks.gradual import GradualPruning
from mlprune.callbacks.language_units import LanguageUnits
from mlprune.callbacks.make_smaller import MakeSmaller
from mlprune.callbacks.peers import Peers
from mlprune.callbacks.progress import ProgressDisplay
from mlprune.callbacks.pruning import PruningCallback
from mlprune.callbacks.recovery import RecoveryTraining
from mlprune.callbacks.report import ReportCallback
from mlprune.callbacks.run_folder import RunFolder
from mlprune.callbacks.run_logger import RunLogger
from mlprune.callbacks.run_writer import RunWriter
from mlprune.callbacks.sigterm import EndOnSigterm
from mlprune.callbacks.tensorboard import TensorBoard

__all__ = [
    "BlockInfluence",
    "EndOnSigterm",
    "EvaluatedFeatures",
    "ExpertPruning",
    "FeatureAblation",
    "FeatureAnalysis",
    "GradualPruning",
    "LanguageUnits",
    "MakeSmaller",
    "Peers",
    "ProgressDisplay",
    "PruningCallback",
    "RecoveryTraining",
    "ReportCallback",
    "ResultsTable",
    "RunCallback",
    "RunFolder",
    "RunLogger",
    "RunWriter",
    "TensorBoard",
    "Viewer",
]

"""Retrieval quality of binary codes: exact, aware of ties, fast. Knows nothing of the model that made the codes."""

from .baselines import chance_metrics, feature_metrics
from .code_quality import bit_correlations, code_quality
from .neighbours import family_metrics, knn_accuracy
from .radius import radius_metrics
from .retrieval import PrecisionRecallCurve, per_class_metrics, precision_recall_curve, retrieval_metrics
from .sub_codes import sub_code_metrics

__all__ = [
    "PrecisionRecallCurve",
    "bit_correlations",
    "chance_metrics",
    "code_quality",
    "family_metrics",
    "feature_metrics",
    "knn_accuracy",
    "per_class_metrics",
    "precision_recall_curve",
    "radius_metrics",
    "retrieval_metrics",
    "sub_code_metrics",
]

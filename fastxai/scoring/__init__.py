"""Scoring: the measures of faithfulness on results in hand or on a run, and the file that keeps what they found."""

from fastxai.scoring.calls import DEFAULT, score
from fastxai.scoring.files import read_scores, scores_path, write_scores

__all__ = ["DEFAULT", "read_scores", "score", "scores_path", "write_scores"]

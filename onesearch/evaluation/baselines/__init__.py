"""Baselines. Each is fitted on the training split and ranks the whole catalogue.

`onesearch.data.requests.split_sessions` defines the training split. The cascades alone may also be fitted on validation requests. Every
retriever reads the complete history of a request. On a leave-last-out test this history contains the user's validation purchase, on which
SASRec and the counts were not trained, and neither was the model.
"""

from .boosted import BoostedCascadeRetriever, BoostingConfig
from .cascade import CascadeRetriever, CascadeWeights
from .dense import DenseRetriever
from .popularity import PopularityInCategoryRetriever, PopularityRetriever
from .sasrec import SASRecConfig, SASRecRetriever
from .text import BM25Retriever
from .transitions import TransitionRetriever

__all__ = [
    "BM25Retriever",
    "BoostedCascadeRetriever",
    "BoostingConfig",
    "CascadeRetriever",
    "CascadeWeights",
    "DenseRetriever",
    "PopularityInCategoryRetriever",
    "PopularityRetriever",
    "SASRecConfig",
    "SASRecRetriever",
    "TransitionRetriever",
]

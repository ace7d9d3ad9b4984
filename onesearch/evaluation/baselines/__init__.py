"""Baselines. Each is fitted on the training split alone and ranks the whole catalogue.

`onesearch.data.requests.split_sessions` defines the training split. Every retriever reads the complete history of a request. On a
leave-last-out test this history contains the user's validation purchase, on which neither the baselines nor the model were trained.
"""

from .cascade import CascadeRetriever, CascadeWeights
from .dense import DenseRetriever
from .popularity import PopularityInCategoryRetriever, PopularityRetriever
from .text import BM25Retriever

__all__ = [
    "BM25Retriever",
    "CascadeRetriever",
    "CascadeWeights",
    "DenseRetriever",
    "PopularityInCategoryRetriever",
    "PopularityRetriever",
]

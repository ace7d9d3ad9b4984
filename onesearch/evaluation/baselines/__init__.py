"""Systems to be measured against. Each is fitted on the training split alone and ranks the whole catalogue.

The training split is that of `onesearch.data.requests.split_sessions`. A request's own history is given to every retriever
as it stands; on a leave-last-out test it contains the user's validation purchase, from which no baseline has learned, and
neither has our model.
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

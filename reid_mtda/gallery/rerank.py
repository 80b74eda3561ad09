"""Re-ranking of one search's answers: who has the same neighbours as the query comes first.

It costs some milliseconds a search and needs a gallery in which people were seen several times. Scores stay cosines, so
that thresholds judge them as before; it is the order that changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reid_mtda.gallery.gallery import Gallery
from reid_mtda.k_reciprocal import rerank_dist
from reid_mtda.types import FloatArray, SearchHit

RERANKED = 200
"""The nearest sightings that are looked at; more find little more and cost more."""


def rerank_hits(
    gallery: Gallery, vector: FloatArray, hits: Sequence[SearchHit], *, camera: str | None = None
) -> tuple[SearchHit, ...]:
    """Order the first 200 of ``hits`` by k-reciprocal distance to the query; the others follow as they were.

    Args:
        gallery: that gave the hits.
        vector: the query's embedding float32 (D,) as `Gallery.search` takes it; a sighting's own row is not to be among
            the hits.
        hits: most alike first; fewer than three stay as they are. One that was deleted meanwhile is left out.
        camera: that which took the query, as in `Gallery.search`.
    """
    compared = gallery.vectors([hit.sighting_id for hit in hits[:RERANKED]], as_compared=True)
    first = [hit for hit in hits[:RERANKED] if hit.sighting_id in compared]
    rest = tuple(hits[RERANKED:])
    if len(first) < 3:
        return (*first, *rest)
    query = gallery.as_compared(np.asarray(vector, np.float32)[None], [camera])
    dist = rerank_dist(query, np.stack([compared[hit.sighting_id] for hit in first]))[0]
    return (*(first[place] for place in np.argsort(dist, kind="stable")), *rest)

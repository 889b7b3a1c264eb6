"""Images, decoded once: sources, the cache, the resumable loader and the data module."""

from gansharing.data.cache import CachedImages, cache_root
from gansharing.data.decode import Recipe
from gansharing.data.domains import MultiDomainData
from gansharing.data.images import ImageData
from gansharing.data.loader import ResumableLoader
from gansharing.data.prepare import prepare
from gansharing.data.shards import ShardedImageData
from gansharing.data.sources import Source, open_source

__all__ = [
    "CachedImages",
    "ImageData",
    "MultiDomainData",
    "Recipe",
    "ResumableLoader",
    "ShardedImageData",
    "Source",
    "cache_root",
    "open_source",
    "prepare",
]

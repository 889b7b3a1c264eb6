"""One rank of ``test_distributed``: scores its share and prints the result as JSON.

Usage: two_ranks.py RANK WORLD STORE IMAGES, with images as safetensors (fake, real).
"""

import json
import sys
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from gansharing.metrics import Diversity, ScoreSuite, build_extractor, real_features
from gansharing.metrics.perceptual import build_distance


class Reference:
    def __init__(self, images: Tensor) -> None:
        self.images, self.fingerprint = images, "distributed" * 4

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: list[int]) -> dict[str, Tensor]:
        return {"image": self.images[indices]}


def main(rank: int, world: int, store: str, images: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world)
    pictures = load_file(images)
    suite = ScoreSuite(build_extractor("lite"), kid_subsets=5, kid_subset_size=10, bootstrap=10)
    suite.set_real(real_features(Reference(pictures["real"]), suite.extractor, batch_size=1, progress=False))
    results: dict[str, Any] = {}
    for name, split in {"unequal": 9, "everything on one": 23}.items():
        suite.reset()
        share = pictures["fake"] if world == 1 else pictures["fake"].tensor_split([split])[rank]
        for image in share.split(1):  # alone in its batch an image has the same features everywhere
            suite.update(image)
        results[name] = suite.compute()
    watch = Diversity(build_distance("lpips_lite"), pictures["real"], clusters=3)
    for image in (pictures["fake"] if world == 1 else pictures["fake"].tensor_split([23])[rank]).split(1):
        watch.update(image)
    watch.update(pictures["fake"][:0])  # as a rank does that has none
    results["diversity"] = {name: float(value) for name, value in watch.compute().items()}
    results["n"] = suite.protocol()["n_fake"]
    return results


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])))

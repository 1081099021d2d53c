"""Write the golden numbers of the propagator: network, memory and what happens between frames.

    python benchmarks/propagation_golden_memory.py CHECKOUTS

CHECKOUTS is a folder with git checkouts of hkchengrex/Tracking-Anything-with-DEVA and hkchengrex/XMem, named as their
repositories. Their inference cores run as they are, beside ours, on the clips of tests/propagation/clips.py, with
weights made from a hash of their names. If any frame differs by more than 1e-4 anywhere, nothing is written and the
exit code is 1; otherwise tests/propagation/golden_memory.json gets the commits, the differences and samples of the
authors' probabilities.

Merging detections is compared elsewhere: here both get masks that are merged already.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from propagation_golden import commit, deva_network, rounded, xmem_network

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.propagation.clips import CLIPS, GOLDEN, NETWORKS, TOLERANCE, Clip, outputs
from tests.propagation.golden import hashed_network, samples
from tests.propagation.hashed import hashed_weights

from maskstream.propagation.memory_policy import MemoryPolicy
from maskstream.propagation.network_features import NetworkFeatures
from maskstream.propagation.network_propagator import NetworkPropagator


def main() -> None:
    """Compare, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, metavar="CHECKOUTS")
    checkouts = parser.parse_args().checkouts
    warnings.simplefilter("ignore")  # their autocast, and what they say of features that are kept
    golden: dict[str, Any] = {}
    worst = 0.0
    for kind, repository, build, run in (
        ("deva", "Tracking-Anything-with-DEVA", deva_network, deva_outputs),
        ("xmem", "XMem", xmem_network, xmem_outputs),
    ):
        theirs = build(checkouts / repository).eval()
        theirs.load_state_dict(hashed_weights({name: tensor.shape for name, tensor in theirs.state_dict().items()}))
        network = hashed_network(NETWORKS[kind])
        for name, clip in CLIPS.items():
            if clip.network != kind:
                continue
            ours = NetworkPropagator(network, mode="exact", policy=clip.policy, size=None)
            found = outputs(ours, clip)
            with torch.inference_mode():
                expected = run(theirs, clip, ours)
            differences = {key: float((found[key] - expected[key]).abs().max()) for key in expected}
            worst = max(worst, *differences.values())
            for key, difference in differences.items():
                peaks = ", ".join(f"{peak:.2f}" for peak in expected[key].flatten(1).amax(dim=1).tolist())
                print(f"{name:<16} {key:<10} {difference:.1e}  largest probabilities {peaks}")
            golden[name] = {
                "repository": repository,
                "commit": commit(checkouts / repository),
                "largest_difference": float(f"{max(differences.values()):.1e}"),
                "samples": {key: rounded(samples(f"{name}, {key}", value)[:40]) for key, value in expected.items()},
            }
    if not worst <= TOLERANCE:
        sys.exit(f"frames differ by {worst:.1e}, more than {TOLERANCE:.0e}: nothing is written")
    GOLDEN.write_text(json.dumps(golden, indent=1).replace(",\n    ", ", ") + "\n", encoding="utf-8")
    print(f"largest difference {worst:.1e}; wrote {GOLDEN.name}, {GOLDEN.stat().st_size / 1000:.0f} kB")


def deva_outputs(network: Any, clip: Clip, ours: NetworkPropagator) -> dict[str, Tensor]:
    """What `outputs` has, from DEVA's inference core. It is given the images that ours sees."""
    module = core_module()
    core = module.DEVAInferenceCore(network, their_config(clip.policy, clip.frames))
    found: dict[str, Tensor] = {}
    seen: list[NetworkFeatures] = []
    for index in range(clip.frames):
        seen.append(ours.encode(clip.frame(index)))
        image = seen[index].crop(seen[index].image_b3hw)[0]
        if index in clip.removals:
            remove(core, clip.removals[index])
        if index in clip.merges:
            ids = clip.merges[index]
            module.match_and_merge = given_masks(F.pad(clip.masks(index, ids), padding(seen[index])), ids)
            core.incorporate_detection(image, torch.zeros(clip.size_hw, dtype=torch.long), [])
            masks = seen[index].crop(core.last_mask[0])
            found[f"frame {index}"] = torch.cat([1 - masks.sum(dim=0, keepdim=True), masks])
        elif index in clip.prompts:
            ids = clip.prompts[index]
            labels = (clip.masks(index, ids).long() * torch.tensor(ids)[:, None, None]).amax(dim=0)
            found[f"frame {index}"] = core.step(image, labels, list(ids))
        else:
            found[f"frame {index}"] = core.step(image, end=index == clip.frames - 1)
    found["aligned"] = their_alignment(network, clip, seen)
    return found


def xmem_outputs(network: Any, clip: Clip, ours: NetworkPropagator) -> dict[str, Tensor]:
    """The same from XMem's, which cannot align. All objects are there from the first frame on."""
    core = import_module("inference.inference_core").InferenceCore(network, their_config(clip.policy, clip.frames))
    everything = clip.prompts[0]
    core.set_all_labels(list(everything))
    found: dict[str, Tensor] = {}
    for index in range(clip.frames):
        seen = ours.encode(clip.frame(index))
        given = clip.prompts.get(index)
        masks = None
        if given is not None:
            shown = torch.tensor([object_id in given for object_id in everything])
            masks = (clip.masks(index, everything) & shown[:, None, None]).float()
        last = index == clip.frames - 1
        found[f"frame {index}"] = core.step(seen.crop(seen.image_b3hw)[0], masks, given and list(given), end=last)
    return found


def their_config(policy: MemoryPolicy, frames: int) -> dict[str, object]:
    """A policy in their words, for a video of so many frames."""
    return {
        "mem_every": policy.every,
        "deep_update_every": -1,
        "top_k": policy.top_k,
        "enable_long_term": policy.long_term_tokens is not None,
        "enable_long_term_count_usage": True,
        "max_mid_term_frames": policy.max_frames,
        "min_mid_term_frames": policy.min_frames,
        "num_prototypes": policy.prototypes,
        "max_long_term_elements": policy.long_term_tokens,
        "max_missed_detection_count": frames,
        "chunk_size": -1,
        "value_dim": 512,
        "hidden_dim": 64,
    }


def core_module() -> Any:
    """Their inference core, which imports a solver that is not used here."""
    sys.modules.setdefault("pulp", ModuleType("pulp"))
    return import_module("deva.inference.inference_core")


def given_masks(masks_nhw: Tensor, ids: tuple[int, ...]) -> Any:
    """In place of their merging: these masks, and those of the objects that are new."""

    def merged(_: Tensor, __: Tensor, objects: Any, *___: object, **____: object) -> Tensor:
        new = [object_id for object_id in ids if object_id not in objects.all_obj_ids]
        if new:
            objects.add_new_objects(new)
        assert objects.all_obj_ids == list(ids)
        return masks_nhw

    return merged


def remove(core: Any, ids: tuple[int, ...]) -> None:
    """What their core does with objects that it has missed too often."""
    keep = [n for n, object_id in enumerate(core.object_manager.all_obj_ids) if object_id not in ids]
    core.object_manager.delete_object(list(ids))
    core.memory.purge_except(core.object_manager.all_obj_ids)
    core.last_mask = core.last_mask[:, keep]


def their_alignment(network: Any, clip: Clip, seen: list[NetworkFeatures]) -> Tensor:
    """From the first frame to the last."""
    align = import_module("deva.inference.consensus_associated").spatial_alignment
    store = import_module("deva.inference.image_feature_store").ImageFeatureStore(network, no_warning=True)
    masks = F.pad(clip.masks(0, (1, 2, 3)).float(), padding(seen[0]))
    last = len(seen) - 1
    images = (seen[0].image_b3hw[0], seen[last].image_b3hw[0])
    (aligned,) = align(0, images[0], masks, last, images[1], network, store, their_config(clip.policy, clip.frames))
    return seen[0].crop(aligned)


def padding(features: NetworkFeatures) -> tuple[int, int, int, int]:
    """Around a frame: left, right, top, bottom, as `F.pad` wants it."""
    missing = [large - small for large, small in zip(features.padded_hw, features.size_hw, strict=True)]
    return missing[1] // 2, missing[1] - missing[1] // 2, missing[0] // 2, missing[0] - missing[0] // 2


if __name__ == "__main__":
    main()

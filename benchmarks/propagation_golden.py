"""Write the golden numbers of the propagation network, having run the authors' beside ours.

    python benchmarks/propagation_golden.py CHECKOUTS

CHECKOUTS is a folder with git checkouts of hkchengrex/Tracking-Anything-with-DEVA and hkchengrex/XMem, named as their
repositories. Their code runs as it is. Both networks get the same weights and inputs, made from a hash of their names;
ours gets the weights through a checkpoint file. If any output differs by more than 1e-4 anywhere, nothing is written
and the exit code is 1; otherwise tests/propagation/golden_network.json gets the commits, the differences and samples of
the authors' outputs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import model_zoo

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.propagation.golden import GOLDEN, TOLERANCE, Inputs, outputs, samples
from tests.propagation.hashed import hashed_weights

from maskstream.propagation.network import NetworkConfig, from_authors

WIDTHS = {"key_dim": 64, "value_dim": 512, "pix_feat_dim": 512, "hidden_dim": 64}

Outputs = dict[str, Tensor]


def main() -> None:
    """Compare, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, metavar="CHECKOUTS")
    checkouts = parser.parse_args().checkouts
    warnings.filterwarnings("ignore", category=FutureWarning)  # their autocast
    networks: dict[str, tuple[NetworkConfig, str, Callable[[Path], nn.Module], Callable[[Any, Inputs], Outputs]]] = {
        "deva": (NetworkConfig.deva(), "Tracking-Anything-with-DEVA", deva_network, deva_outputs),
        "xmem": (NetworkConfig.xmem(), "XMem", xmem_network, xmem_outputs),
    }
    golden, worst = {}, 0.0
    for name, (config, repository, build, run) in networks.items():
        theirs = build(checkouts / repository).eval()
        weights = hashed_weights({key: tensor.shape for key, tensor in theirs.state_dict().items()})
        theirs.load_state_dict(weights)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(weights, Path(folder) / "weights.pth")
            ours = from_authors(Path(folder) / "weights.pth", config=config)
        given = Inputs.hashed(config)
        with torch.inference_mode():
            expected = run(theirs, given)
        found = outputs(ours, given)
        differences = {key: float((found[key] - expected[key]).abs().max()) for key in expected}
        if set(found) != set(expected):
            raise AssertionError(f"compared {sorted(expected)}, but ours puts out {sorted(found)}")
        worst = max(worst, *differences.values())
        report(name, expected, differences)
        golden[name] = {
            "commit": commit(checkouts / repository),
            "largest_difference": {key: float(f"{value:.1e}") for key, value in differences.items()},
            "samples": {key: rounded(samples(key, value)) for key, value in expected.items()},
        }
    if not worst <= TOLERANCE:
        sys.exit(f"outputs differ by {worst:.1e}, more than {TOLERANCE:.0e}: nothing is written")
    GOLDEN.write_text(json.dumps(golden, indent=1).replace(",\n    ", ", ") + "\n", encoding="utf-8")
    print(f"largest difference {worst:.1e}; wrote {GOLDEN.name}, {GOLDEN.stat().st_size / 1000:.0f} kB")


def report(name: str, expected: Outputs, differences: dict[str, float]) -> None:
    """A line for each output: its spread, and how far ours is from it."""
    print(f"{name:<26} {'deviation':>10} {'largest':>10} {'difference':>11}")
    for key, difference in differences.items():
        print(f"  {key:<24} {expected[key].std():10.3f} {expected[key].abs().max():10.3f} {difference:11.1e}")


def rounded(numbers: Tensor) -> list[float]:
    """Six digits after the point are more than enough."""
    return [round(number, 6) for number in numbers.tolist()]


def commit(checkout: Path) -> str:
    """Of the authors' code."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def import_from(checkout: Path, name: str) -> Any:
    """A module of the authors, whose backbones then start without their ImageNet weights."""
    if not checkout.is_dir():
        sys.exit(f"there is no {checkout}: check the repository out there")
    sys.path.insert(0, str(checkout))
    model_zoo.__dict__["load_url"] = lambda *_, **__: {}
    return import_module(name)


# The authors' networks.


def deva_network(checkout: Path) -> nn.Module:
    """DEVA's, with its published widths."""
    package = ModuleType("deva")  # without what the package imports for itself: its fusion needs a solver
    package.__path__ = [str(checkout / "deva")]
    sys.modules["deva"] = package
    import_from(checkout, "deva.model.resnet").load_weights_add_extra_dim = lambda *_, **__: None
    network: nn.Module = import_module("deva.model.network").DEVA(WIDTHS)
    return network


def deva_outputs(network: Any, given: Inputs) -> Outputs:
    """What DEVA's network puts out."""
    (f16, f8, f4), key_feature = network.encode_image(given.image_b3hw)
    key, shrinkage, selection = network.transform_key(key_feature)
    features = (f16, f8, f4)
    value, deep = network.encode_mask(given.image_b3hw, features, given.sensory_bnchw, given.masks_bnhw)
    f8_projected, f4_projected = network.mask_decoder.decoder_feat_proc([f8, f4])
    segment = (features, given.readout_bnchw, given.sensory_bnchw, given.masks_bnhw)
    sensory, log_odds, probabilities = network.segment(*segment)
    selector = given.selector_bn[:, :, None, None]
    _, _, selected, _, auxiliary_selected = network.segment(*segment, selector=selector, need_aux=True)
    last = F.interpolate(given.masks_bnhw, size=key.shape[-2:], mode="area").unsqueeze(2)
    _, logits, auxiliary = network.mask_decoder(
        features, given.readout_bnchw, given.sensory_bnchw, last, need_aux=True, update_sensory=False
    )
    return {
        "f16": f16,
        "f8": f8_projected,
        "f4": f4_projected,
        "key": key,
        "shrinkage": shrinkage,
        "selection": selection,
        "value": value,
        "sensory, deep": deep,
        "sensory": sensory,
        "logits": logits,
        "log-odds": log_odds,
        "probabilities": probabilities,
        "probabilities, selected": selected,
        "auxiliary": auxiliary.squeeze(2),
        "auxiliary probabilities": auxiliary_selected.squeeze(2),
    }


def xmem_network(checkout: Path) -> nn.Module:
    """XMem's, with its published widths."""
    import_from(checkout, "model.resnet").load_weights_add_extra_dim = lambda *_, **__: None
    network: nn.Module = import_module("model.network").XMem(dict(WIDTHS))
    return network


def xmem_outputs(network: Any, given: Inputs) -> Outputs:
    """What XMem's network puts out."""
    key, shrinkage, selection, f16, f8, f4 = network.encode_key(given.image_b3hw)
    value, deep = network.encode_value(given.image_b3hw, f16, given.sensory_bnchw, given.masks_bnhw)
    segment = ((f16, f8, f4), given.readout_bnchw, given.sensory_bnchw)
    kept: list[Tensor] = []
    hook = network.decoder.pred.register_forward_hook(lambda _, __, logits: kept.append(logits))
    sensory, log_odds, probabilities = network.segment(*segment, strip_bg=False)
    hook.remove()
    selector = given.selector_bn[:, :, None, None]
    _, _, selected = network.segment(*segment, selector=selector, strip_bg=False)
    return {
        "f16": f16,
        "f8": network.decoder.up_16_8.skip_conv(f8),
        "f4": network.decoder.up_8_4.skip_conv(f4),
        "key": key,
        "shrinkage": shrinkage,
        "selection": selection,
        "value": value,
        "sensory, deep": deep,
        "sensory": sensory,
        "logits": kept[0].view(1, -1, *kept[0].shape[-2:]),
        "log-odds": log_odds,
        "probabilities": probabilities,
        "probabilities, selected": selected,
    }


if __name__ == "__main__":
    main()

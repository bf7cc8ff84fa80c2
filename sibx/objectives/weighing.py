"""How terms, weights and scales become the total."""

from collections.abc import Mapping

from torch import Tensor

from sibx.objectives.config import SIBConfig
from sibx.objectives.terms import LayerTerms, Parts


def term_weights(config: SIBConfig) -> dict[str, float]:
    """Return the name of every term -> its weight in the total, the cross-entropy first."""
    layers = {"auto": 1.0} if isinstance(config.layers, str) else config.layers
    weights = {"cross_entropy": 1.0}
    for name, weight in layers.items():
        weights[_key(config, "foreground", name)] = weight * config.foreground_weight
        weights[_key(config, "background", name)] = weight * config.background_weight
    return weights | ({"background_swap": config.background_swap} if config.background_swap > 0 else {})


def term_values(config: SIBConfig, parts: Parts) -> dict[str, Tensor]:
    """Return the name of every term that there is -> the scalar that its weight multiplies."""
    values = {"cross_entropy": parts.cross_entropy}
    for name, terms in parts.layers.items():
        foreground, background = _shape(config, terms)
        values |= {_key(config, "foreground", name): foreground, _key(config, "background", name): background}
    return values if parts.background_swap is None else values | {"background_swap": parts.background_swap}


def weighted_total(config: SIBConfig, parts: Parts, scales: Mapping[str, float]) -> Tensor:
    """Return the scalar to minimize; a term without a scale has scale 1."""
    total = parts.cross_entropy
    for name, terms in parts.layers.items():
        foreground, background = _shape(config, terms)
        f = config.foreground_weight * scales.get(_key(config, "foreground", name), 1.0)
        b = config.background_weight * scales.get(_key(config, "background", name), 1.0)
        total = total + terms.weight * (b * background + f * foreground)
    if parts.background_swap is not None:
        total = total + config.background_swap * scales.get("background_swap", 1.0) * parts.background_swap
    return total


def _key(config: SIBConfig, term: str, layer: str) -> str:
    several = not isinstance(config.layers, str) and len(config.layers) > 1
    return f"{term}[{layer}]" if several else term


def _shape(config: SIBConfig, terms: LayerTerms) -> tuple[Tensor, Tensor]:
    """Foreground and background as the form has them, smaller is better."""
    if config.form == "linear":
        return -terms.foreground, terms.background
    return (-terms.foreground).exp(), terms.background.exp()

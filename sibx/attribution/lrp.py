"""Layer-wise relevance propagation by the rules of zennit, which refuses networks that there are no rules for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sibx._captum import run_forward
from sibx._checks import check_choice, require
from sibx.attribution._lrp_cover import uncovered
from sibx.attribution.cotangents import differentiate_inputs
from sibx.attribution.modules import HookedAttribution
from sibx.attribution.safe import check_outputs, select_scores
from sibx.models.scored import unwrap

COMPOSITES = ("epsilon_plus_flat", "epsilon_plus", "epsilon_alpha2_beta1_flat", "epsilon_alpha2_beta1")
NAMED = 8  # places without a rule that an error names; it counts all


class LRP(HookedAttribution):
    """Layer-wise relevance propagation: the score, handed back from layer to layer by shares in it, signed.

    By default (EpsilonPlusFlat) linear layers hand it back by the epsilon rule, convolutions to positive contributions
    only, the first layer evenly. BatchNorm counts as a part of the layer before it. In units of the score; what biases
    contribute is lost, and without biases the sum is the score.

    A network has to be made of modules that there is a rule for, each of which runs once: linear layers, convolutions,
    BatchNorm right after one, activations, pooling, ``zennit.layer.Sum`` for residual additions. Functions in
    ``forward`` (``x + y``, ``F.relu``, ``mean``), attention and LayerNorm are refused: maps that pass them by the plain
    gradient would be no relevance.

    Its authors say that LRP is patented, and free for personal and scientific use: ask before any other use. Needs the
    extra ``lrp``.

    Args:
        forward_func: the model, a ``torch.nn.Module``.
        composite: which rules: ``epsilon_plus_flat``, ``epsilon_plus``, ``epsilon_alpha2_beta1_flat``,
            ``epsilon_alpha2_beta1``, or a composite of zennit, with its canonizers.

    Raises:
        ValueError: the model is not a module, an unknown name, or when it explains: places in the network that there is
            no rule for; the error names them.
        ImportError: when it explains, and zennit is not installed.

    Source: Bach et al., PLOS ONE 10(7), 2015; the rules as in Kohlbrenner et al., arXiv 1910.09840; through zennit.
    """

    def __init__(self, forward_func: nn.Module, composite: Any = COMPOSITES[0]):
        require(isinstance(forward_func, nn.Module), "forward_func", "be a torch.nn.Module", forward_func)
        if isinstance(composite, str):
            check_choice("composite", composite, COMPOSITES)
        super().__init__(forward_func)
        self.composite = composite

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        composite = self._rules()
        missing = uncovered(self.forward_func, composite, inputs, extra)
        rule = "be made of modules that LRP has rules for, each of which runs once"
        named = f"{', '.join(missing[:NAMED])}{', ...' if len(missing) > NAMED else ''} ({len(missing)} in all)"
        require(not missing, "forward_func", rule, named if missing else "")
        with self._reasons(inputs, target, extra), _ruled(self.forward_func, composite), self._output() as logits:
            outputs = run_forward(self.forward_func, inputs, None, extra or None)
            scores = select_scores(outputs, target, len(inputs[0]))
            z = check_outputs(logits[0])
            # Where a wrapper combines logits, each has its share of the score: z times what the score takes of it.
            (shares,) = differentiate_inputs(scores.sum(), (z,))
            return differentiate_inputs((z * (z * shares).detach()).sum(), inputs)

    @contextmanager
    def _output(self) -> Iterator[list[Any]]:
        """Within the block, the yielded list collects what the innermost model returns."""
        found: list[Any] = []
        handle = unwrap(self.forward_func).register_forward_hook(lambda _, __, output: found.append(output))
        try:
            yield found
        finally:
            handle.remove()

    def _rules(self) -> Any:
        """Return the composite of zennit."""
        try:
            from zennit.canonizers import SequentialMergeBatchNorm
            from zennit.composites import COMPOSITES as TABLE
        except ImportError as error:
            raise ImportError("lrp needs zennit: pip install 'sibx[lrp]'") from error
        if not isinstance(self.composite, str):
            return self.composite
        return TABLE[self.composite](canonizers=[SequentialMergeBatchNorm()])


@contextmanager
def _ruled(model: nn.Module, composite: Any) -> Iterator[None]:
    """Within the block a model's modules have rules; after it, also after an error, all of it is as it was.

    zennit puts BatchNorm into the weights for as long, so parameters and buffers are put back here whatever happens.
    """
    kept = [(module, dict(module._parameters), dict(module._buffers)) for module in model.modules()]
    tensors = [t for _, parameters, buffers in kept for t in (*parameters.values(), *buffers.values()) if t is not None]
    values = [(tensor, tensor.data) for tensor in tensors]
    try:
        composite.register(model)
        yield
    finally:
        composite.remove()
        for module, parameters, buffers in kept:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
        for tensor, value in values:
            tensor.data = value

"""Sanity: does the heatmap change with the model's parameters, and with the class that is explained?"""

from sibx.metrics.sanity import _complexity_rise, _random_logit, _randomization
from sibx.metrics.spec import MetricSpec

SANITY: dict[str, MetricSpec] = {
    s.name: s for s in (_randomization.RANDOMIZATION, _complexity_rise.COMPLEXITY_RISE, _random_logit.RANDOM_LOGIT)
}

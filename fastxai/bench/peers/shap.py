"""The `shap` package's GradientExplainer."""

from __future__ import annotations

from fastxai.bench.peers.subject import Answer, Explain, Subject
from fastxai.explainers import GradientShap


def prepare(subject: Subject) -> Explain:
    """`GradientExplainer.shap_values` with ranked_outputs=K, which goes back through the network once a class.

    ranked_outputs=None does the same for every class of the model, so K classes are a sample of it.
    """
    import shap

    config = subject.explainer
    assert isinstance(config, GradientShap)
    explainer = shap.GradientExplainer(subject.module, subject.black(), local_smoothing=config.stdevs)

    def explain(index: int) -> Answer:
        values, ranks = explainer.shap_values(
            subject.picture(index), nsamples=config.samples, ranked_outputs=subject.classes, rseed=subject.seed
        )
        # values [1, C, H, W, K]
        return {int(target): values[0, ..., place].sum(0) for place, target in enumerate(ranks[0].tolist())}

    return explain

"""The `captum` package's GradientShap."""

from __future__ import annotations

from fastxai.bench.peers.subject import Answer, Explain, Subject
from fastxai.explainers import GradientShap


def prepare(subject: Subject) -> Explain:
    """`GradientShap.attribute`, which takes one class a call, with the picture's classes named to it."""
    from captum.attr import GradientShap as StockGradientShap

    config = subject.explainer
    assert isinstance(config, GradientShap)
    method = StockGradientShap(subject.module)
    black = subject.black()

    def explain(index: int) -> Answer:
        found = {}
        for target in subject.targets[index].tolist():
            attributions = method.attribute(
                subject.picture(index), baselines=black, n_samples=config.samples, stdevs=config.stdevs, target=target
            )
            found[target] = attributions[0].sum(0).detach().cpu().numpy()
        return found

    return explain

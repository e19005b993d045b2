"""The packages that fastxai is held against, each called as its users call it.

A peer's file has `prepare(subject) -> Explain`; it imports the package only there. `PEERS` says what it explains.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass

from fastxai.bench.peers.subject import Answer, Explain, Subject
from fastxai.packages import versions_of

__all__ = ["PEERS", "Answer", "Explain", "Peer", "Subject"]


@dataclass(frozen=True)
class Peer:
    """A package: its name on the index, what is imported, and the method of ours that it answers to.

    call: how it is called, for people. linear: whether its time grows by as much with every class.
    """

    name: str
    imports: str
    method: str
    place: str
    call: str
    linear: bool = True

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.imports) is not None

    @property
    def version(self) -> str:
        return versions_of([self.name]).get(self.name, "unknown")

    def prepare(self, subject: Subject) -> Explain:
        """The peer at work on `subject`: a function from picture numbers to one `Answer` a picture."""
        explain: Explain = importlib.import_module(self.place).prepare(subject)
        return explain


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "lime",
            "lime",
            "lime",
            "fastxai.bench.peers.lime",
            "LimeImageExplainer.explain_instance, rows in batches of 10, hidden segments black",
            linear=False,
        ),
        Peer(
            "captum",
            "captum",
            "gradient-shap",
            "fastxai.bench.peers.captum",
            "GradientShap.attribute, one picture and one class a call, black baseline",
        ),
        Peer(
            "shap",
            "shap",
            "gradient-shap",
            "fastxai.bench.peers.shap",
            "GradientExplainer.shap_values, one picture a call, ranked_outputs, black background",
        ),
        Peer(
            "grad-cam",
            "pytorch_grad_cam",
            "gradcam",
            "fastxai.bench.peers.grad_cam",
            "GradCAM, one picture and one class a call, the same layer",
        ),
    )
}

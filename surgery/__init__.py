"""Surgery: replace the layers of a model that a small accelerator runs badly, where they stand.

    lite_model, report = surgery.lite(model, example_inputs=(image,), calibration=batches)
    again = surgery.replay(fresh_model, report.plan)

The input model is never modified; the result keeps its class, its methods and its state_dict keys. Needs torch only.
"""

from surgery.batchnorm import reestimate_batchnorm
from surgery.engine import lite
from surgery.errors import PlanMismatch, SurgeryError
from surgery.explain import explain
from surgery.fingerprint import fingerprint
from surgery.operators import Operator, operators
from surgery.record import Edit, Plan, Refusal, Report
from surgery.registry import rules
from surgery.replay import replay
from surgery.rule import Promise, Rule

__all__ = [
    "Edit",
    "Operator",
    "Plan",
    "PlanMismatch",
    "Promise",
    "Refusal",
    "Report",
    "Rule",
    "SurgeryError",
    "explain",
    "fingerprint",
    "lite",
    "operators",
    "reestimate_batchnorm",
    "replay",
    "rules",
]

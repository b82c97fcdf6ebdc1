"""Surgery: replace the layers of a model that a small accelerator runs badly, where they stand.

    lite_model, report = surgery.lite(model, example_inputs=(image,), calibration=batches)
    again = surgery.replay(fresh_model, report.plan)

The input model is never modified; the result keeps its class, its methods and its state_dict keys. Needs torch only.
"""

from surgery.batchnorm import reestimate_batchnorm
from surgery.dictionary import dictionary_rules, get_replacement_dict_default
from surgery.engine import lite
from surgery.errors import PlanMismatch, SurgeryError
from surgery.explain import explain
from surgery.fingerprint import fingerprint
from surgery.lite_fx import DictionaryReport, SurgeryModule, convert_to_lite_fx, replace_unsupported_layers
from surgery.operators import Operator, operators
from surgery.pattern import CallPattern, Pattern
from surgery.record import Edit, Plan, Refusal, Report
from surgery.registry import rules
from surgery.replay import replay
from surgery.rule import Promise, Rule
from surgery.snippet import any_module, constant

__all__ = [
    "CallPattern",
    "DictionaryReport",
    "Edit",
    "Operator",
    "Pattern",
    "Plan",
    "PlanMismatch",
    "Promise",
    "Refusal",
    "Report",
    "Rule",
    "SurgeryError",
    "SurgeryModule",
    "any_module",
    "constant",
    "convert_to_lite_fx",
    "dictionary_rules",
    "explain",
    "fingerprint",
    "get_replacement_dict_default",
    "lite",
    "operators",
    "reestimate_batchnorm",
    "replace_unsupported_layers",
    "replay",
    "rules",
]

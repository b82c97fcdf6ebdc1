"""Surgery: replace the layers of a model that a small accelerator runs badly, where they stand.

    lite_model, report = surgery.lite(model, example_inputs=(image,), calibration=batches)
    again = surgery.replay(fresh_model, report.plan)

The input model is never modified; the result keeps its class, its methods and its state_dict keys. Needs torch only.
"""

from surgery.batchnorm import reestimate_batchnorm
from surgery.drawing.drawing import before_after, draw
from surgery.engine import lite, proposals
from surgery.errors import PlanMismatch, SurgeryError
from surgery.explain import explain
from surgery.fingerprint import fingerprint
from surgery.lengths import Lengths, lengthen
from surgery.observing.evidence import Evidence
from surgery.observing.operators import Operator, operators
from surgery.observing.shapes import shape_of
from surgery.operating.rewrite import call_new_module
from surgery.patterns.pattern import CallPattern, Match, Pattern
from surgery.patterns.snippet import any_module, constant
from surgery.reconstruction.reconstruct import Reconstruction, reconstruct
from surgery.reconstruction.refit import Refit, refit
from surgery.record import Edit, LeftAlone, Plan, Refusal, Report
from surgery.registry import rules
from surgery.replacement.dictionary import dictionary_rules, get_replacement_dict_default
from surgery.replacement.lite_fx import DictionaryReport, SurgeryModule, convert_to_lite_fx, replace_unsupported_layers
from surgery.replay import replay
from surgery.risk import Risk
from surgery.rule import Decline, Example, Promise, Rule, Stage
from surgery.warm_start import WarmStart

__all__ = [
    "CallPattern",
    "Decline",
    "DictionaryReport",
    "Edit",
    "Evidence",
    "Example",
    "LeftAlone",
    "Lengths",
    "Match",
    "Operator",
    "Pattern",
    "Plan",
    "PlanMismatch",
    "Promise",
    "Reconstruction",
    "Refit",
    "Refusal",
    "Report",
    "Risk",
    "Rule",
    "Stage",
    "SurgeryError",
    "SurgeryModule",
    "WarmStart",
    "any_module",
    "before_after",
    "call_new_module",
    "constant",
    "convert_to_lite_fx",
    "dictionary_rules",
    "draw",
    "explain",
    "fingerprint",
    "get_replacement_dict_default",
    "lengthen",
    "lite",
    "operators",
    "proposals",
    "reconstruct",
    "reestimate_batchnorm",
    "refit",
    "replace_unsupported_layers",
    "replay",
    "rules",
    "shape_of",
]

"""Recorded envelopes put to the policy again: why was this accepted, and would it be today? No I/O, no clock."""

from sidecar.hindsight.aftermath import Entry, Window, with_aftermath
from sidecar.hindsight.change import Advice, Change
from sidecar.hindsight.disagreement import Aside, Comparison, Disagreement
from sidecar.hindsight.envelope import Envelope, Happened, Kind, envelope_of
from sidecar.hindsight.explanation import Explainer, RecordExplanation, encode_record_explanation
from sidecar.hindsight.judgement import Judgement, Outcome, judge
from sidecar.hindsight.pasted import is_pasted, pasted
from sidecar.hindsight.totals import Count, Tally, Totals

__all__ = [
    "Advice",
    "Aside",
    "Change",
    "Comparison",
    "Count",
    "Disagreement",
    "Entry",
    "Envelope",
    "Explainer",
    "Happened",
    "Judgement",
    "Kind",
    "Outcome",
    "RecordExplanation",
    "Tally",
    "Totals",
    "Window",
    "encode_record_explanation",
    "envelope_of",
    "is_pasted",
    "judge",
    "pasted",
    "with_aftermath",
]

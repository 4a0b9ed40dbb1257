"""Recorded envelopes put to the policy again: why was this accepted, and would it be today? No I/O, no clock."""

from sidecar.hindsight.envelope import Envelope, Kind, envelope_of
from sidecar.hindsight.judgement import Judgement, Outcome, judge

__all__ = ["Envelope", "Judgement", "Kind", "Outcome", "envelope_of", "judge"]

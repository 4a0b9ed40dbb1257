"""Which class a bounce is of: the first rule that fits a response. No I/O, no clock, no memory of the past."""

from sidecar.classifier.classifier import LINE_LIMIT, Classifier

__all__ = ["LINE_LIMIT", "Classifier"]

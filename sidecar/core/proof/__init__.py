"""What proves that a report is about our mail: the address token, the trace header, our DKIM signature.

`verify` checks a report; `address.tagged` and `trace.trace` make proofs. Nothing here reads a clock, a file or
a random source, or raises an exception for what an external host wrote. See deploy/docs/verification.md.
"""

"""Our own DKIM signature in a returned message (RFC 6376, 8301, 8463): header hash and signature, without DNS."""

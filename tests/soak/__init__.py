"""Random attacks and hostile loads on a sidecar behind a real Postfix: bounded and repeatable, with a short form as tests."""

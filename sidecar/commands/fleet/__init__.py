"""`sidecar fleet`: publish the policy of many nodes, and show what they do with it."""

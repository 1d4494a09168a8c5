"""What orchestrator and workers agree on: settings, messages, tensors on the wire, Redis keys."""
